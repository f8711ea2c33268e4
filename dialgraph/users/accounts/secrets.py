"""The secrets that the server itself keeps: given by the settings, or made at the first start in the data folder."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet

from dialgraph.users.accounts.encryption import Encryption, EncryptionError
from dialgraph.users.accounts.tokens import FEWEST_SECRET_BYTES, Tokens

_WELL_KNOWN = ("secret", "changeme", "change-me", "example", "s3curek3y", "your-", "password")


class SecretError(Exception):
    """A secret cannot be used. One sentence that does not show it."""


def open_tokens(given: str, data_dir: Path) -> Tokens:
    """With the settings' secret, or with the data folder's own. Raises SecretError."""
    secret = given or kept_secret(data_dir / "token.secret", lambda: secrets.token_urlsafe(48))
    if len(secret.encode()) < FEWEST_SECRET_BYTES:
        raise SecretError(f"Setting 'token_secret': it has fewer than {FEWEST_SECRET_BYTES} bytes and can be guessed.")
    if can_be_guessed(secret) or any(word in secret.lower() for word in _WELL_KNOWN):
        raise SecretError("Setting 'token_secret': it can be guessed. `openssl rand -base64 48` makes one that cannot.")
    return Tokens(secret.encode())


def can_be_guessed(secret: str) -> bool:
    """Whether it repeats itself, or has few different characters."""
    return len(set(secret)) < 12 or secret[:-1] in secret[1:] or secret in (secret + secret)[1:-1]


def open_encryption(given: str, data_dir: Path) -> Encryption:
    """With the settings' keys, the newest first and separated by commas, or with the data folder's own."""
    keys = given or kept_secret(data_dir / "encryption.key", lambda: Fernet.generate_key().decode())
    try:
        return Encryption([key.strip() for key in keys.replace("\n", ",").split(",") if key.strip()])
    except EncryptionError as error:
        raise SecretError(f"Setting 'encryption_keys': {error}") from None


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """Return what the file holds; make it, readable by the owner only, if it is not there.

    Of two processes that start at once, one makes the file and both read the same. Raises SecretError for a file that
    cannot be read: a secret that is lost must not be replaced in silence.
    """
    try:
        if not path.exists():
            _write(path, make())
        if path.stat().st_mode & 0o077:
            with suppress(OSError):  # a secret may be mounted read-only
                path.chmod(0o600)
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        raise SecretError(
            f"The file {path.name!r} in the data folder cannot be read. Restore it, or delete it to get a new one."
        ) from None


def _write(path: Path, secret: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()
