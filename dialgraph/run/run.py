"""The run of one turn: its task, its events, its listeners, and how it ends.

A graph that runs inside a response does not stop when the client leaves. So each run has its own task. This task is
cancelled at most once and always awaited, no matter what its listeners do.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal, Protocol

from dialgraph.graph.compile import CompiledGraph
from dialgraph.graph.errors import StoppedError
from dialgraph.records.turn_log import TurnLog
from dialgraph.run.channel import Channel, Subscription
from dialgraph.run.last_words import cut_words, last_words
from dialgraph.tasks import forget_frames, outlast
from dialgraph.turn.events import Event, Failed, Fallback
from dialgraph.turn.node import Turn

State = Literal["complete", "interrupted", "failed"]


class Observer(Protocol):
    """Receives the events of a run, in addition to its listeners."""

    def heard(self, events: Sequence[Event]) -> None:
        """Receive the events that the fastest listener has taken."""

    def ended(self, run: "Run") -> None:
        """Learn that the run has ended. No more events come."""


class Record(Protocol):
    """Stores what a run says. It is committed before any listener receives the end of the run."""

    def heard(self, events: Sequence[Event]) -> None:
        """Receive the events that the fastest listener has taken."""

    async def end(self, state: State) -> None:
        """Commit the end of the run, before any listener receives it. Raise an error if the commit failed."""

    async def close(self, state: State) -> None:
        """Close the record. If `end` was not called, `state` says how the turn ended."""


class Run:
    """One turn from its start to its end."""

    def __init__(
        self,
        graph: CompiledGraph,
        turn: Turn,
        *,
        keep: int = 0,
        linger_seconds: float = 0.0,
        record: Record | None = None,
        observers: Sequence[Observer] = (),
        log: TurnLog | None = None,
    ) -> None:
        """Start the run.

        `keep`: how many events are stored, from the first one, for listeners who come later.
        `linger_seconds`: how long the run continues after its last listener has left. It does not stop before the first
        listener has come.
        """
        self.log = log
        """The log of the turn, if it is recorded."""
        self.failure: BaseException | None = None
        """The error that it failed with, or the reason why it was stopped."""
        self.cut = False
        """Whether it was stopped before its end."""
        self.was_heard = False
        """Whether it has ever had a listener."""
        self._record = record
        self._observers = observers
        hearing = [observer.heard for observer in observers]
        if record is not None:
            hearing.append(record.heard)
        self._channel = Channel(keep=keep, heard=hearing, tap=turn.line.tap)
        self._linger_seconds = linger_seconds
        self._lingering: asyncio.TimerHandle | None = None
        self._listeners = 0
        self.stopped = False
        """Whether `stop` was called before its end."""
        self._over = False
        """Whether its graph has ended, so that only the end is left to report."""
        self._reason: Exception | None = None
        self._quiet = False
        self._on_end: list[Callable[[], None]] = []
        self._on_over: list[Callable[[], None]] = []
        self._now = turn.environment.now
        self.times = turn.times
        """The times of the turn."""
        turn.line.connect(self._channel.put)
        self._task: asyncio.Task[None] | None = asyncio.create_task(
            self._drive(graph, turn), name=f"turn of {graph.spec.name}"
        )
        self._task.add_done_callback(self._end)

    @property
    def done(self) -> bool:
        """Return whether nothing of the run is active any more."""
        return self._task is None

    @property
    def joinable(self) -> bool:
        """Return whether a new listener could receive the whole run, from its first event to a good end."""
        return not self.stopped and self.failure is None and self._channel.whole

    def subscribe(self) -> Subscription:
        """Add a listener. When the last listener leaves, the run stops, immediately or after `linger_seconds`."""
        self._listeners += 1
        self.was_heard = True
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        return self._channel.subscribe(self._leave)

    def stop(self, reason: Exception | None = None, *, quiet: bool = False) -> None:
        """Stop the run now, for all listeners. It is cancelled only once.

        `quiet`: nobody waits for its words any more.
        """
        if not self.stopped and not self._over and self._task is not None:
            self.stopped, self._reason, self._quiet = True, reason, quiet
            self.times.stopped = self._now()
            self._task.cancel()

    async def wait(self) -> None:
        """Wait until nothing of the run is active. Keep waiting even if the waiting task is cancelled."""
        if self._task is not None:
            await outlast(self._task)

    async def left(self) -> None:
        """Wait for the end of the run after leaving it. Return immediately if others listen or may come back."""
        if self._listeners == 0 and self._lingering is None:
            await self.wait()

    def when_done(self, call: Callable[[], None]) -> None:
        """Call this function when nothing of the run is active any more."""
        self._on_end.append(call)

    def when_over(self, call: Callable[[], None]) -> None:
        """Call this function when nothing of the run is active any more and every listener has left."""
        self._on_over.append(call)

    def _look_whether_over(self) -> None:
        if self._task is None and not self._listeners:
            calls, self._on_over = self._on_over, []
            for call in calls:
                call()

    def _leave(self) -> None:
        self._listeners -= 1
        self._look_whether_over()
        if self._listeners == 0 and self._task is not None:
            if self._linger_seconds and not self.stopped:
                self._lingering = asyncio.get_running_loop().call_later(self._linger_seconds, self.stop)
            else:
                self.stop()

    async def _drive(self, graph: CompiledGraph, turn: Turn) -> None:
        policy = graph.spec.policy
        last: Fallback | Failed | None = None
        try:
            try:
                await _play(graph, turn)
            except Exception as error:
                forget_frames(error)
                if self.stopped:
                    raise asyncio.CancelledError from error
                self.failure = error
                last = await last_words(turn, policy, error)
        except asyncio.CancelledError:
            self.cut = True
            self.failure = self._reason or StoppedError("The turn was stopped.")
            last = cut_words(turn, policy, self.failure, quiet=self._quiet)
        self._over = True  # a stop must not interrupt the cleanup below
        try:
            await turn.aclose()
        except Exception as error:  # noqa: BLE001 (a node may have put anything on the stack)
            self.failure = self.failure or error
            last = last or cut_words(turn, policy, error, quiet=False)
        await self._tell_end(last)

    async def _tell_end(self, last: Fallback | Failed | None) -> None:
        """Commit the end, then report it. Report a failure if the end cannot be committed."""
        if last is not None:
            self._channel.add(last)
        if not isinstance(last, Failed) and (unkept := await self._keep("failed" if last else "complete")) is not None:
            self.failure = self.failure or unkept
            self._channel.add(Failed(unkept))
        self._channel.close()
        if self._record is not None:
            await self._record.close("interrupted" if self.cut or self.failure is None else "failed")

    async def _keep(self, state: State) -> Exception | None:
        """Commit the end if a listener has received everything. Return the error of the commit, or None."""
        if self._record is not None and await self._channel.heard_out():
            try:
                await self._record.end(state)
            except Exception as error:  # noqa: BLE001 (any error means that the end was not stored)
                return error
        return None

    def _end(self, task: "asyncio.Task[None]") -> None:
        # The task holds its context, and so the whole request. An ended run that can be joined needs only its events.
        self._task = None
        if task.cancelled() or task.exception() is not None:  # cancelled before it began, or with the whole loop
            self.cut, self.failure = True, self._reason or StoppedError("The turn was stopped.")
            self._channel.add(Failed(self.failure))
        self._channel.close()
        for observer in self._observers:
            observer.ended(self)
        self.times.ended = self._now()
        for call in self._on_end:
            call()
        self._on_end.clear()
        self._look_whether_over()


@asynccontextmanager
async def running(graph: CompiledGraph, turn: Turn, *, observers: Sequence[Observer] = ()) -> AsyncIterator[Run]:
    """Start a turn. Leaving the block stops it, closes what it opened and waits until that is done."""
    run = Run(graph, turn, observers=observers)
    try:
        yield run
    finally:
        run.stop()
        await run.wait()


async def run_turn(
    graph: CompiledGraph, turn: Turn, *, observers: Sequence[Observer] = ()
) -> AsyncGenerator[Event, None]:
    """Run one turn and yield its events. Raise the error that the turn fails with.

    Closing the generator at any point stops every node and closes the upstream.
    """
    async with running(graph, turn, observers=observers) as run:
        async for events in run.subscribe():
            for event in events:
                if isinstance(event, Failed):
                    raise event.error
                yield event


async def _play(graph: CompiledGraph, turn: Turn) -> None:
    """Run the graph. A failing voice ends it immediately, because its step may wait a long time for something else."""
    task, broken = asyncio.current_task(), list[BaseException]()
    assert task is not None  # noqa: S101  # a coroutine that runs has one

    def break_off(error: BaseException) -> None:
        if not broken and not task.cancelling():
            broken.append(error)
            task.cancel()

    turn.line.watch(break_off)
    try:
        await graph.serve(turn)
    except asyncio.CancelledError:
        # If only we cancelled the task, the voice has failed. If others cancelled it too, the turn was stopped.
        if broken and task.uncancel() == 0:
            raise broken[0] from None
        raise
    finally:
        turn.line.watch(None)
