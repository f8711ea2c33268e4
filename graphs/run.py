"""One turn: compiled graph → its events. Owns the task that runs it, and stops it.

A graph that is iterated inside a response is not stopped when the client leaves. So it runs in a task of its own, which
is cancelled exactly once and awaited, whatever happens to whoever reads the events.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from graphs.channel import Channel
from graphs.compile import CompiledGraph
from nodes.contract import Turn
from nodes.events import Event

MOST_STEPS = 200
"""A turn that takes more is a loop that nobody meant."""


class RunningTurn:
    """The reader's end of a turn."""

    def __init__(self, channel: Channel, task: "asyncio.Task[None]") -> None:
        self._channel = channel
        self._task = task
        self._stopped = False

    async def batches(self) -> AsyncIterator[list[Event]]:
        """All that was said since the last time, as soon as there is something. Raises what the turn failed with."""
        while events := await self._channel.take():
            yield events
        await self.wait()
        if not self._task.cancelled():
            self._task.result()

    def stop(self) -> None:
        """End the turn now: cancel it, once."""
        if not self._stopped:
            self._stopped = True
            self._task.cancel()

    async def wait(self) -> None:
        """Return when nothing of the turn runs any more, however often the caller is cancelled meanwhile."""
        await _outlast(self._task)


@asynccontextmanager
async def running(graph: CompiledGraph, turn: Turn) -> AsyncIterator[RunningTurn]:
    """Start a turn; leaving the block stops it, closes what it opened and waits for that."""
    channel = Channel()
    turn.line.sink = channel.put
    task = asyncio.create_task(_drive(graph, turn), name=f"turn of {graph.name}")
    task.add_done_callback(lambda done: channel.close())  # also if it was stopped before it began
    run = RunningTurn(channel, task)
    try:
        yield run
    finally:
        run.stop()
        await run.wait()
        if not task.cancelled():
            task.exception()  # seen: the reader had it, or did not stay for it


async def run_turn(graph: CompiledGraph, turn: Turn) -> AsyncGenerator[Event, None]:
    """The events of one turn. Leaving the generator at any point stops every node and closes the upstream."""
    async with running(graph, turn) as run:
        async for events in run.batches():
            for event in events:
                yield event


async def _drive(graph: CompiledGraph, turn: Turn) -> None:
    given: Any = {"messages": []}
    try:
        await graph.ainvoke(given, {"recursion_limit": MOST_STEPS}, context=turn)
    finally:
        # In a task of its own: a client that leaves now must not cut the closing short.
        await _outlast(asyncio.create_task(turn.aclose()))


async def _outlast(task: "asyncio.Task[None]") -> None:
    """Wait for the task, and pass on a cancellation only when it is done. What it failed with stays in it."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
