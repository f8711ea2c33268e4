"""The secrets that the server itself keeps: given by the settings, or made at the first start in the data folder."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet

from accounts.sealed import Sealed, SealError
from accounts.tokens import FEWEST_SECRET_BYTES, Tokens

_WELL_KNOWN = ("secret", "changeme", "change-me", "example", "s3curek3y", "your-", "password")


class SecretError(Exception):
    """A secret cannot be used. One sentence that does not show it."""


def open_tokens(given: str, data_dir: Path) -> Tokens:
    """With the settings' secret, or with the data folder's own. Raises SecretError."""
    secret = given or _kept(data_dir / "token.secret", lambda: secrets.token_urlsafe(48))
    if len(secret.encode()) < FEWEST_SECRET_BYTES:
        raise SecretError(f"Setting 'token_secret': it has fewer than {FEWEST_SECRET_BYTES} bytes and can be guessed.")
    if len(set(secret)) < 12 or any(word in secret.lower() for word in _WELL_KNOWN):
        raise SecretError("Setting 'token_secret': it can be guessed. `openssl rand -base64 48` makes one that cannot.")
    return Tokens(secret.encode())


def open_sealed(given: str, data_dir: Path) -> Sealed:
    """With the settings' keys, the newest first and separated by commas, or with the data folder's own."""
    keys = given or _kept(data_dir / "encryption.key", lambda: Fernet.generate_key().decode())
    try:
        return Sealed([key.strip() for key in keys.replace("\n", ",").split(",") if key.strip()])
    except SealError as error:
        raise SecretError(f"Setting 'encryption_keys': {error}") from None


def _kept(path: Path, make: Callable[[], str]) -> str:
    """What the file holds; of two processes that start at once, one makes it and both read the same."""
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
    return path.read_text(encoding="ascii").strip()
