"""Work that is done again and again while the server lives, and once more at its end; never cut in the middle."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

log = logging.getLogger(__name__)


async def every(seconds: float, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Do it until `stop` is set, and then a last time. A cancellation would leave a connection half open."""
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
        try:
            await work()
        except Exception:
            # The boundary of the work: whatever is wrong once, it is done again.
            log.exception("what is done again and again has failed once")
