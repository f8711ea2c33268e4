"""What is encrypted at rest: users' upstream keys, each bound to its row, so that none can be moved to another."""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class EncryptionError(Exception):
    """A key that is none, or what it cannot open."""


class Encryption:
    """Encrypts with the first of its keys, and opens with any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._newest = Fernet(keys[0])
            self._all = MultiFernet([Fernet(key) for key in keys])
        except (ValueError, TypeError, IndexError):
            raise EncryptionError("a key has 32 random bytes in URL-safe base64.") from None

    def seal(self, secret: str, row: str) -> bytes:
        """The secret of this row, encrypted."""
        return self._all.encrypt(f"{row}\0{secret}".encode())

    def open(self, sealed: bytes, row: str) -> str:
        """The secret again. Raises EncryptionError if it was sealed with another key, or for another row."""
        try:
            owner, _, secret = self._all.decrypt(sealed).decode().partition("\0")
        except InvalidToken:
            raise EncryptionError("it was encrypted with a key that the settings no longer have.") from None
        if owner != row:
            raise EncryptionError("it belongs to another row.")
        return secret

    def is_newest(self, sealed: bytes) -> bool:
        """Whether it is encrypted with the first key."""
        try:
            self._newest.decrypt(sealed)
        except InvalidToken:
            return False
        return True
