"""The server's own secrets: from the settings, or created in the data folder at the first start."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dialgraph.users.accounts.encryption import Encryption, EncryptionError, new_key
from dialgraph.users.accounts.tokens import FEWEST_SECRET_BYTES, Tokens

_WELL_KNOWN = ("secret", "changeme", "change-me", "example", "s3curek3y", "your-", "password")


class SecretError(Exception):
    """A secret cannot be used. The message does not show the secret."""


def open_tokens(given: str, data_dir: Path) -> Tokens:
    """Return the tokens with the secret of the settings, or else of the data folder. Raises SecretError."""
    secret = given or kept_secret(data_dir / "token.secret", lambda: secrets.token_urlsafe(48))
    if len(secret.encode()) < FEWEST_SECRET_BYTES:
        raise SecretError(f"Setting 'token_secret': it has fewer than {FEWEST_SECRET_BYTES} bytes and can be guessed.")
    if can_be_guessed(secret) or any(word in secret.lower() for word in _WELL_KNOWN):
        raise SecretError("Setting 'token_secret': it can be guessed. Make a new one with `openssl rand -base64 48`.")
    return Tokens(secret.encode())


def can_be_guessed(secret: str) -> bool:
    """Return whether the secret repeats itself or has fewer than 12 different characters."""
    return len(set(secret)) < 12 or secret[:-1] in secret[1:] or secret in (secret + secret)[1:-1]


def open_encryption(given: str, data_dir: Path) -> Encryption:
    """Return the encryption with the keys of the settings, or else of the data folder. Raises SecretError.

    The settings give the keys separated by commas, the newest first.
    """
    keys = given or kept_secret(data_dir / "encryption.key", new_key)
    try:
        return Encryption([key.strip() for key in keys.replace("\n", ",").split(",") if key.strip()])
    except EncryptionError as error:
        raise SecretError(f"Setting 'encryption_keys': {error}") from None


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """Return the content of the file. Create the file if it is missing, readable only by its owner.

    If two processes start at the same time, one creates the file and both read the same secret. Raises SecretError for
    a file that cannot be read: a lost secret must not be replaced silently.
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
