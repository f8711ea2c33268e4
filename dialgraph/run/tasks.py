"""Helpers for tasks: wait for a task despite cancellations, and free the memory that an error holds."""

import asyncio
from traceback import clear_frames


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


async def outlast(task: "asyncio.Task[None]") -> None:
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
