"""Runs asynchronous streams for scripts without an event loop, on one event loop in a thread of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import cache
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

Item = TypeVar("Item")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop. It is the same for all calls, because engines keep connections between them."""
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="dialgraph", daemon=True).start()
    return loop


def run_in_background(begin: Callable[[], Coroutine[Any, Any, Item]]) -> Item:
    """Return the result of the coroutine that `begin` returns."""

    async def run() -> Item:
        return await begin()

    task = asyncio.run_coroutine_threadsafe(run(), _loop())
    try:
        return task.result()
    except BaseException:
        task.cancel()
        raise


def in_background(begin: Callable[[], AsyncIterator[Item]]) -> Iterator[Item]:
    """Yield the items of the stream that `begin` returns. Leaving the iterator cancels the stream."""
    items: SimpleQueue[tuple[Item] | None] = SimpleQueue()

    async def run() -> None:
        try:
            async for item in begin():
                items.put((item,))
        finally:
            items.put(None)

    task = asyncio.run_coroutine_threadsafe(run(), _loop())
    try:
        while (item := items.get()) is not None:
            yield item[0]
        task.result()
    finally:
        task.cancel()
