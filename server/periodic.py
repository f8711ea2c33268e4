"""Periodic tasks: they run while the server runs, and once more when it stops. They are never cut in the middle."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

log = logging.getLogger(__name__)


async def every(seconds: float, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Run `work` periodically, after each pause of `seconds`, until `stop` is set. Then run it a last time.

    Set `stop` instead of cancelling the task: a cancellation would leave a connection half open.
    """
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
        try:
            await work()
        except Exception:
            # One failure must not end a periodic task.
            log.exception("a periodic task failed; it will run again")
