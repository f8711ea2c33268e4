"""Encrypts stored secrets, such as users' upstream keys. Each is bound to its row and cannot be moved to another."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from functools import cached_property
from secrets import token_bytes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.fernet import Fernet, MultiFernet

_KEY_BYTES = 32


def new_key() -> str:
    """Return a new key: 32 random bytes in URL-safe base64, as Fernet wants them."""
    return urlsafe_b64encode(token_bytes(_KEY_BYTES)).decode()


class EncryptionError(Exception):
    """An encryption key is invalid, or a value cannot be decrypted."""


class Encryption:
    """Encrypts with the first of its keys, and decrypts with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            if not keys or any(len(urlsafe_b64decode(key)) != _KEY_BYTES for key in keys):
                raise ValueError
        except ValueError:
            raise EncryptionError("a key must be 32 random bytes in URL-safe base64.") from None
        self._keys = keys

    @cached_property
    def _newest(self) -> "Fernet":
        from cryptography.fernet import Fernet

        return Fernet(self._keys[0])

    @cached_property
    def _all(self) -> "MultiFernet":
        from cryptography.fernet import Fernet, MultiFernet

        return MultiFernet([Fernet(key) for key in self._keys])

    def seal(self, secret: str, row: str) -> bytes:
        """Return the secret of this row, encrypted."""
        return self._all.encrypt(f"{row}\0{secret}".encode())

    def open(self, sealed: bytes, row: str) -> str:
        """Return the decrypted secret. Raises EncryptionError if it has another key or belongs to another row."""
        from cryptography.fernet import InvalidToken

        try:
            owner, _, secret = self._all.decrypt(sealed).decode().partition("\0")
        except InvalidToken:
            raise EncryptionError("it was encrypted with a key that is no longer in the settings.") from None
        if owner != row:
            raise EncryptionError("it belongs to another row.")
        return secret

    def is_newest(self, sealed: bytes) -> bool:
        """Return whether it is encrypted with the first key."""
        from cryptography.fernet import InvalidToken

        try:
            self._newest.decrypt(sealed)
        except InvalidToken:
            return False
        return True
