"""Passwords as bcrypt hashes, looked at one at a time in a thread, so that a flood of logins costs no call its pace."""

import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import bcrypt

from dialgraph.environment import in_thread
from dialgraph.users.accounts.errors import BusyError, InvalidAccountError

COST = 12
"""A quarter of a second a hash on the machine that this was measured on."""
MOST_BYTES = 72
"""bcrypt reads no further; a longer password would be equal to its own beginning."""
FEWEST_CHARACTERS = 8
MOST_WAITING = 4
"""Hashes that may wait for the one thread: who comes then would wait longer than a second."""
_HASH_CHARACTERS = 31

Found = TypeVar("Found")


class Passwords:
    """Makes hashes and compares with them."""

    def __init__(self) -> None:
        self._cost = COST
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._waiting = 0
        self._nobodys = bcrypt.gensalt(COST).decode() + "." * _HASH_CHARACTERS
        """What is compared with where there is no user: it takes as long, and was made of no password."""

    async def hash(self, password: str) -> str:
        """What is kept of a new password. Raises InvalidAccountError and BusyError."""
        if len(password) < FEWEST_CHARACTERS or not password.strip():
            raise InvalidAccountError(f"A password has at least {FEWEST_CHARACTERS} characters.")
        if len(given := _bytes(password)) > MOST_BYTES:
            raise InvalidAccountError(f"A password has at most {MOST_BYTES} bytes.")
        return await self._run(partial(_hashed, given, self._cost))

    async def matches(self, password: str, kept: str | None) -> bool:
        """Whether it is the one. Takes the same time without a hash, and with a password that cannot be one."""
        given = _bytes(password)
        possible = kept is not None and len(given) <= MOST_BYTES
        compare = partial(bcrypt.checkpw, given[:MOST_BYTES], (kept or self._nobodys).encode())
        return await self._run(compare) and possible

    async def aclose(self) -> None:
        """End the thread."""
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
    """The same for every way of writing the same characters."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
