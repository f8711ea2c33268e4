"""Work that is done to its end, also when whoever waits for it is cancelled."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

Found = TypeVar("Found")


async def to_the_end(work: Coroutine[Any, Any, Found]) -> Found:
    """What it gives. A cancellation meanwhile is passed on when it is done, also if it then fails."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if not cancelled:
        return task.result()
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("what a cancelled task left could not be cleaned up", exc_info=error)
    raise asyncio.CancelledError
