"""Helpers for tasks: finish work despite cancellations, and free the memory that an error holds."""

import asyncio
import logging
from collections.abc import Coroutine
from traceback import clear_frames
from typing import Any, TypeVar

log = logging.getLogger(__name__)

Found = TypeVar("Found")


def forget_frames(error: BaseException | None) -> None:
    """Clear the local variables of all frames in the error's traceback. They hold the whole request, for example.

    An error and its frames often form a reference cycle. The error can still be logged with its traceback.
    """
    waiting, seen = [error], {id(None)}
    while waiting:
        error = waiting.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            clear_frames(error.__traceback__)
            waiting += [error.__cause__, error.__context__]


async def outlast(task: "asyncio.Task[Any]") -> None:
    """Wait for the task, and raise a cancellation only after the task is done. Its own error stays in the task."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled  # the error refers to this frame; the cycle would live until the next garbage collection


async def to_the_end(work: Coroutine[Any, Any, Found]) -> Found:
    """Return what the work returns. If cancelled, finish the work first and then raise CancelledError.

    CancelledError is raised even if the work failed meanwhile; then the log has its error.
    """
    task = asyncio.ensure_future(work)
    try:
        await outlast(task)
    except asyncio.CancelledError:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("cleanup after a cancelled task failed", exc_info=error)
        raise
    return task.result()
