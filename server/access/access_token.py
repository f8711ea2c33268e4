"""The access token, which protects a server without configured keys. The first start creates it; restarts keep it."""

import re
import secrets
from pathlib import Path

from dialgraph.users.accounts.key_hash import KEY_PREFIX
from dialgraph.users.accounts.secrets import SecretError, can_be_guessed, kept_secret
from server.settings import SettingsError

FILE = "access.token"
"""The name of its file in the data folder."""
_FORM = re.compile(rf"{KEY_PREFIX}[\w-]{{43}}", re.ASCII)


def access_token(data_dir: Path) -> str:
    """Return the token, which has 256 random bits. Create it if there is none yet. Raises SettingsError."""
    try:
        token = kept_secret(data_dir / FILE, lambda: KEY_PREFIX + secrets.token_urlsafe(32))
    except SecretError as error:
        raise SettingsError(str(error)) from None
    if not _FORM.fullmatch(token) or can_be_guessed(token.removeprefix(KEY_PREFIX)):
        raise SettingsError(
            f"The file {FILE!r} in the data folder is damaged. Delete it. The next start creates a new one."
        )
    return token


def existing_access_token(data_dir: Path) -> str:
    """Return the token that a server has created, for commands that call the server; empty if there is none."""
    return access_token(data_dir) if (data_dir / FILE).is_file() else ""
