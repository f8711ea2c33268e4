"""The token that protects a server without configured keys: made at the first start, the same after a restart."""

import re
import secrets
from pathlib import Path

from dialgraph.users.accounts.key_hash import KEY_PREFIX
from dialgraph.users.accounts.secrets import SecretError, can_be_guessed, kept_secret
from server.settings import SettingsError

FILE = "access.token"
"""Its name in the data folder."""
_FORM = re.compile(rf"{KEY_PREFIX}[\w-]{{43}}", re.ASCII)


def access_token(data_dir: Path) -> str:
    """Return the token, 256 random bits; make it if there is none yet. Raises SettingsError."""
    try:
        token = kept_secret(data_dir / FILE, lambda: KEY_PREFIX + secrets.token_urlsafe(32))
    except SecretError as error:
        raise SettingsError(str(error)) from None
    if not _FORM.fullmatch(token) or can_be_guessed(token.removeprefix(KEY_PREFIX)):
        raise SettingsError(
            f"The file {FILE!r} in the data folder is damaged. Delete it; the next start makes a new one."
        )
    return token


def existing_access_token(data_dir: Path) -> str:
    """Return the token that a server has made, for commands that call it; empty if there is none."""
    return access_token(data_dir) if (data_dir / FILE).is_file() else ""
