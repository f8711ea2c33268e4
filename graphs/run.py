"""One turn: compiled graph → its events. Owns the task that runs it, and stops it.

A graph that is iterated inside a response is not stopped when the client leaves. So it runs in a task of its own, which
is cancelled exactly once and awaited, whatever happens to whoever reads the events.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from traceback import clear_frames
from typing import Any

from graphs.channel import Channel, Reader
from graphs.compile import CompiledGraph
from nodes.contract import Turn
from nodes.events import Event
from speech.port import VoiceError

_LAST_WORDS_SECONDS = 120.0
"""For what was said before a turn failed: it takes as long as it is heard."""
MOST_STEPS = 200
"""A turn that takes more is a loop that nobody meant."""


class RunningTurn:
    """A turn from its start to its end, and the readers' end of it."""

    def __init__(self, graph: CompiledGraph, turn: Turn, *, keep: int = 0) -> None:
        """Start it. The first `keep` events stay, for readers who come later."""
        self._channel = Channel(keep=keep)
        turn.line.sink = self._channel.put
        self._task: asyncio.Task[None] | None = asyncio.create_task(_drive(graph, turn), name=f"turn of {graph.name}")
        self._task.add_done_callback(self._end)
        self._on_end: list[Callable[[], None]] = []
        self.stopped = False
        """Whether it was told to end before its end."""
        self.cancelled = False
        """Whether it has ended so."""
        self.failure: BaseException | None = None
        """What it has failed with."""

    @property
    def done(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._task is None

    @property
    def whole(self) -> bool:
        """Whether a further reader would hear it from its first word."""
        return self._channel.whole

    def reader(self) -> Reader:
        """A further reader."""
        return self._channel.reader()

    async def batches(self, reader: Reader | None = None) -> AsyncIterator[list[Event]]:
        """All that was said since the last time, as soon as there is something. Raises what the turn failed with."""
        reader = reader or self.reader()
        while events := await reader.take():
            yield events
        if not reader.closed:
            await self.wait()
            if self.failure is not None:
                raise self.failure

    def stop(self) -> None:
        """End the turn now: cancel it, once."""
        if not self.stopped and self._task is not None:
            self.stopped = True
            self._task.cancel()

    async def wait(self) -> None:
        """Return when nothing of the turn runs any more, however often the caller is cancelled meanwhile."""
        if self._task is not None:
            await _outlast(self._task)

    def when_done(self, call: Callable[[], None]) -> None:
        """Call this once it has ended."""
        self._on_end.append(call)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self.cancelled = task.cancelled()
        self.failure = None if task.cancelled() else task.exception()
        # A task keeps its context, and so the whole request: an ended turn that can be joined keeps its words only.
        self._task = None
        self._channel.close()  # also if it was stopped before it began
        for call in self._on_end:
            call()
        self._on_end.clear()


@asynccontextmanager
async def running(graph: CompiledGraph, turn: Turn) -> AsyncIterator[RunningTurn]:
    """Start a turn; leaving the block stops it, closes what it opened and waits for that."""
    run = RunningTurn(graph, turn)
    try:
        yield run
    finally:
        run.stop()
        await run.wait()


async def run_turn(graph: CompiledGraph, turn: Turn) -> AsyncGenerator[Event, None]:
    """The events of one turn. Leaving the generator at any point stops every node and closes the upstream."""
    async with running(graph, turn) as run:
        async for events in run.batches():
            for event in events:
                yield event


async def _drive(graph: CompiledGraph, turn: Turn) -> None:
    try:
        await _run(graph, turn)
    except BaseException as error:
        forget_frames(error)
        raise


async def _run(graph: CompiledGraph, turn: Turn) -> None:
    given: Any = {"messages": []}
    broken = _Broken(turn)
    try:
        with broken:
            await graph.ainvoke(given, {"recursion_limit": MOST_STEPS}, context=turn)
    except Exception as error:
        turn.line.fallback_line = turn.line.fallback()
        if turn.line.voiced:
            await _last_words(turn, error)
        raise
    finally:
        # In a task of its own: a client that leaves now must not cut the closing short.
        await _outlast(asyncio.create_task(turn.aclose()))


class _Broken:
    """While a graph runs, a voice that fails ends it at once: its step may be waiting for something else for long."""

    def __init__(self, turn: Turn) -> None:
        self._line = turn.line
        self._error: BaseException | None = None
        self._cancelled = False
        self._task = asyncio.current_task()

    def __enter__(self) -> None:
        self._line.on_failure = self._fail

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._line.on_failure = lambda error: None
        if self._error is None or self._task is None:
            return
        # Cancelled by us alone: then it has failed. Cancelled by others too: then it was told to stop.
        if self._cancelled and self._task.uncancel() == 0:
            raise self._error

    def _fail(self, error: BaseException) -> None:
        self._error = error
        if self._task is not None and not self._task.cancelling():
            self._cancelled = True
            self._task.cancel()


async def _last_words(turn: Turn, error: Exception) -> None:
    """Let a caller hear to its end what was said before the turn failed, and the fallback line where there is one."""
    line = turn.line
    with suppress(Exception):  # the voice may be what has failed; the turn's own error is told
        async with asyncio.timeout(_LAST_WORDS_SECONDS):
            apologises = turn.profile.on_failure == "speak" and not isinstance(error, VoiceError)
            await line.drain()
            if apologises:
                line.apologised = True
                try:
                    await turn.say(f" {line.fallback_line}" if line.spoken else line.fallback_line)
                    await line.drain()
                except VoiceError:
                    line.apologised = False


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


async def _outlast(task: "asyncio.Task[None]") -> None:
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
