"""Encrypts stored secrets, such as users' upstream keys. Each is bound to its row and cannot be moved to another."""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class EncryptionError(Exception):
    """An encryption key is invalid, or a value cannot be decrypted."""


class Encryption:
    """Encrypts with the first of its keys, and decrypts with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._newest = Fernet(keys[0])
            self._all = MultiFernet([Fernet(key) for key in keys])
        except (ValueError, TypeError, IndexError):
            raise EncryptionError("a key must be 32 random bytes in URL-safe base64.") from None

    def seal(self, secret: str, row: str) -> bytes:
        """Return the secret of this row, encrypted."""
        return self._all.encrypt(f"{row}\0{secret}".encode())

    def open(self, sealed: bytes, row: str) -> str:
        """Return the decrypted secret. Raises EncryptionError if it has another key or belongs to another row."""
        try:
            owner, _, secret = self._all.decrypt(sealed).decode().partition("\0")
        except InvalidToken:
            raise EncryptionError("it was encrypted with a key that is no longer in the settings.") from None
        if owner != row:
            raise EncryptionError("it belongs to another row.")
        return secret

    def is_newest(self, sealed: bytes) -> bool:
        """Return whether it is encrypted with the first key."""
        try:
            self._newest.decrypt(sealed)
        except InvalidToken:
            return False
        return True
