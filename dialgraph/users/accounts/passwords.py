"""Passwords as bcrypt hashes. One thread checks them, one at a time, so that many logins do not slow down calls."""

import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import bcrypt

from dialgraph.environment import in_thread
from dialgraph.users.accounts.errors import BusyError, InvalidAccountError
from dialgraph.users.accounts.tokens import load_libraries

COST = 12
"""A hash took a quarter of a second on the machine where this was measured."""
MOST_BYTES = 72
"""bcrypt reads no more bytes: a longer password would match its own first 72 bytes."""
FEWEST_CHARACTERS = 8
MOST_WAITING = 4
"""How many hashes may wait for the thread. One more would wait longer than a second."""
_HASH_CHARACTERS = 31

Found = TypeVar("Found")


class Passwords:
    """Makes hashes of passwords and compares passwords with hashes."""

    def __init__(self) -> None:
        self._cost = COST
        self._thread = ThreadPoolExecutor(1, "passwords", load_libraries)
        """Before the first password it loads what the login needs next, so that calls do not wait for that."""
        self._waiting = 0
        self._nobodys = bcrypt.gensalt(COST).decode() + "." * _HASH_CHARACTERS
        """Compared with when there is no user: it takes the same time and matches no password."""

    async def hash(self, password: str) -> str:
        """Return the hash of a new password. Raises InvalidAccountError and BusyError."""
        if len(password) < FEWEST_CHARACTERS or not password.strip():
            raise InvalidAccountError(f"A password must have at least {FEWEST_CHARACTERS} characters.")
        if len(given := _bytes(password)) > MOST_BYTES:
            raise InvalidAccountError(f"A password must have at most {MOST_BYTES} bytes.")
        return await self._run(partial(_hashed, given, self._cost))

    async def matches(self, password: str, kept: str | None) -> bool:
        """Return whether the password matches the hash. Takes the same time without a hash, and for a password that is
        too long.
        """
        given = _bytes(password)
        possible = kept is not None and len(given) <= MOST_BYTES
        compare = partial(bcrypt.checkpw, given[:MOST_BYTES], (kept or self._nobodys).encode())
        return await self._run(compare) and possible

    async def aclose(self) -> None:
        """Stop the thread."""
        await in_thread(self._thread.shutdown)

    async def _run(self, work: Callable[[], Found]) -> Found:
        if self._waiting >= MOST_WAITING:
            raise BusyError("Too many logins at the same time. Try again in a moment.")
        self._waiting += 1
        try:
            return await in_thread(work, executor=self._thread)
        finally:
            self._waiting -= 1


def _hashed(given: bytes, cost: int) -> str:
    return bcrypt.hashpw(given, bcrypt.gensalt(cost)).decode()


def _bytes(password: str) -> bytes:
    """Return the bytes of a password, the same for every Unicode form of the same characters."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
