"""The keys that `dialgraph key` creates. The data folder holds only their hashes, so the file gives no access."""

import logging
import os
import secrets
import time
from pathlib import Path

import orjson

from dialgraph.users.accounts.key_hash import KEY_PREFIX, hash_of

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 1.0
_UNREADABLE = "keys.json in the data folder cannot be read. Restore it, or delete it and make new keys."


class KeyFileError(Exception):
    """The keys cannot be read or changed. The message is for the operator."""


class KeyFile:
    """The file `keys.json`: name → SHA-256 of the key. Keys have 256 random bits, so a plain hash is enough."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "keys.json"
        self._hashes: dict[str, str] = {}
        self._looked = -_SECONDS_BETWEEN_LOOKS
        self._stamp: int | None = None

    def check(self) -> None:
        """Raise KeyFileError if the file exists and cannot be read: the server must not start without its keys."""
        self._read()

    def hashes(self) -> dict[str, str]:
        """Return the hashes by name. The file is checked once a second, so that a revoked key is soon refused.

        While the file cannot be read, none of its keys is accepted.
        """
        now = time.monotonic()
        if now - self._looked >= _SECONDS_BETWEEN_LOOKS:
            self._looked = now
            stamp = self._written_at()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._hashes = self._read()
                except KeyFileError:
                    log.error("keys.json could not be read; none of its keys is accepted")
                    self._hashes = {}
        return self._hashes

    def _written_at(self) -> int | None:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return None

    def create(self, name: str) -> str:
        """Create a key and return it. It is shown only this once. Raises KeyFileError."""
        hashes = self._read()
        if not name.isprintable() or not 1 <= len(name) <= 64:
            raise KeyFileError("A key's name must have 1 to 64 printable characters.")
        if name in hashes:
            raise KeyFileError(f"There is already a key {name!r}. Revoke it first, or choose another name.")
        key = KEY_PREFIX + secrets.token_urlsafe(32)
        self._write({**hashes, name: hash_of(key)})
        return key

    def revoke(self, name: str) -> None:
        """Delete the key with this name, so that it is refused from now on. Raises KeyFileError."""
        hashes = self._read()
        if name not in hashes:
            raise KeyFileError(f"No key {name!r}. Keys: {', '.join(map(repr, hashes)) or 'none'}.")
        self._write({other: value for other, value in hashes.items() if other != name})

    def names(self) -> list[str]:
        """Return the names of the keys, in the order in which they were created. Raises KeyFileError."""
        return list(self._read())

    def _read(self) -> dict[str, str]:
        try:
            hashes = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            if self._path.is_symlink():  # the link's target is missing, but the operator expects keys there
                raise KeyFileError(_UNREADABLE) from None
            return {}
        except (OSError, ValueError):
            raise KeyFileError(_UNREADABLE) from None
        if not isinstance(hashes, dict) or not all(_is_hash(value) for value in hashes.values()):
            raise KeyFileError(_UNREADABLE)
        return hashes

    def _write(self, hashes: dict[str, str]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".keys.json.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(hashes, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")
