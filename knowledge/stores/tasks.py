"""Runs work to its end, even if the task that waits for it is cancelled."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

Found = TypeVar("Found")


async def to_the_end(work: Coroutine[Any, Any, Found]) -> Found:
    """Return what the work returns. If cancelled, finish the work first and then raise CancelledError.

    It raises CancelledError even if the work failed in the meantime.
    """
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
        log.warning("cleanup after a cancelled task failed", exc_info=error)
    raise asyncio.CancelledError
