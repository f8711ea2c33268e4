"""What a run takes from the world beside its model: the time, new ids, chance, and threads.

Everything on the path of a turn asks here, so that a turn can be run again with the same time, ids and chance.
"""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from typing import Protocol, TypeVar, TypeVarTuple, Unpack
from uuid import uuid4

Given = TypeVarTuple("Given")
Found = TypeVar("Found")


class Environment(Protocol):
    """The world of one run. Times are in seconds."""

    def now(self) -> float:
        """Seconds on a clock that only moves forward; its zero means nothing."""

    def date(self) -> float:
        """Seconds since 1970, as the wall clock says."""

    def id(self, prefix: str = "", digits: int = 32) -> str:
        """A new id: the prefix, then so many random hexadecimal digits."""

    def chance(self) -> float:
        """A random number from 0 up to 1; not for secrets."""


class RealEnvironment:
    """The world as it is."""

    def now(self) -> float:
        """See Environment."""
        return time.monotonic()

    def date(self) -> float:
        """See Environment."""
        return time.time()

    def id(self, prefix: str = "", digits: int = 32) -> str:
        """See Environment."""
        return prefix + uuid4().hex[:digits]

    def chance(self) -> float:
        """See Environment."""
        return random.random()  # noqa: S311 (for jitter)


REAL = RealEnvironment()


async def in_thread(
    function: Callable[[Unpack[Given]], Found], *args: *Given, executor: Executor | None = None
) -> Found:
    """What the function returns, computed beside the event loop: for what takes a millisecond or more.

    `executor`: threads of one's own; without it those of the event loop.
    """
    work = partial(copy_context().run, function, *args)
    return await asyncio.get_running_loop().run_in_executor(executor, work)
