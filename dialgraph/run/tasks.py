"""Tasks: waiting for one however often the waiter is cancelled, and letting go of what an error keeps alive."""

import asyncio
from traceback import clear_frames


def forget_frames(error: BaseException | None) -> None:
    """Let go of what the functions that an error passed through had in their hands: the whole request, among others.

    An error and the frames that it knows are often a circle. It can still be logged with its places.
    """
    waiting, seen = [error], {id(None)}
    while waiting:
        error = waiting.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            clear_frames(error.__traceback__)
            waiting += [error.__cause__, error.__context__]


async def outlast(task: "asyncio.Task[None]") -> None:
    """Wait for the task, and pass on a cancellation only when it is done. What it failed with stays in it."""
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
            del cancelled  # the error knows this frame: kept in it, both would wait for a garbage collection
