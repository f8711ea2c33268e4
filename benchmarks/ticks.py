"""Measures the delay of an event loop from inside it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def loop_delays() -> AsyncIterator[list[float]]:
    """Yield a list of how late each tick of one millisecond was, in seconds. It grows until the block ends."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            at = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - at - 0.001)

    ticking = asyncio.create_task(tick())
    try:
        yield late
    finally:
        ticking.cancel()
