"""The environment of a run: the time, new ids, chance and threads.

All code on the path of a turn takes them from here, so that a turn can be replayed with the same time, ids and chance.
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
    """The port of the environment of one run. Times are in seconds."""

    def now(self) -> float:
        """Return the seconds on a clock that only moves forward. Its zero has no meaning."""

    def date(self) -> float:
        """Return the seconds since 1970, by the wall clock."""

    def id(self, prefix: str = "", digits: int = 32) -> str:
        """Return a new id: the prefix, followed by this number of random hexadecimal digits."""

    def chance(self) -> float:
        """Return a random number from 0 up to, but not including, 1. Do not use it for secrets."""


class RealEnvironment:
    """The real clock, real ids and real chance."""

    def now(self) -> float:
        """Return the seconds on the monotonic clock."""
        return time.monotonic()

    def date(self) -> float:
        """Return the seconds since 1970."""
        return time.time()

    def id(self, prefix: str = "", digits: int = 32) -> str:
        """Return a new random id."""
        return prefix + uuid4().hex[:digits]

    def chance(self) -> float:
        """Return a random number from 0 to 1."""
        return random.random()  # noqa: S311 (for jitter)


REAL = RealEnvironment()


async def in_thread(
    function: Callable[[Unpack[Given]], Found], *args: *Given, executor: Executor | None = None
) -> Found:
    """Run the function in a thread and return its result. Use it for work that takes a millisecond or more.

    `executor`: the threads to use. None: the default threads of the event loop.
    """
    work = partial(copy_context().run, function, *args)
    return await asyncio.get_running_loop().run_in_executor(executor, work)
