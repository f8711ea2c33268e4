"""The line to the caller's ear: what every step of a turn speaks through, the outlets on it, and its timers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Protocol
from uuid import uuid4

from nodes.events import Action, Event, Say, Transcript
from nodes.frames import Frames

Sink = Callable[[Event], Awaitable[None]]
"""Where events end: our queue when we serve, LangGraph's stream writer in Studio and notebooks."""


class Place(IntEnum):
    """Where on the line an outlet stands, whenever it comes: text is made fit to be said before it becomes sound."""

    TEXT = 0
    SOUND = 1


class Outlet(Protocol):
    """A stage between the nodes and the sink that may hold words back and turn them into something else."""

    sink: Sink
    """What comes behind it; set by the line."""

    async def push(self, event: Event) -> None:
        """Take one event; give on what is ready."""

    async def end_words(self) -> None:
        """Give on the words that are held back, without waiting until they have been heard."""

    async def flush(self) -> None:
        """Give on everything that is held back, and return when the sink has it."""

    async def aclose(self) -> None:
        """Stop at once; what is held back is lost."""


async def nowhere(event: Event) -> None:
    raise RuntimeError("A turn speaks only while its graph runs.")


class Line:
    """The one line to the caller, shared by all steps of a turn."""

    def __init__(self) -> None:
        self.spoken = False
        self.answered = False
        """Whether words were heard; an acknowledgement that came by itself does not count."""
        self.promised = False
        """Whether words are on their way to be heard."""
        self.prepared = False
        """Whether the endpoint's outlets are on it."""
        self.voiced = False
        """Whether words leave as sound of ours; then no model is asked for its own."""
        self.frames: Frames | None = None
        """Of the turn's sound, once there is any."""
        self.fallback: Callable[[], str] = lambda: ""
        """What is said when a turn fails whose host wants words then."""
        self.fallback_line = ""
        """That, once it has failed: an ended turn has let its messages go."""
        self.apologised = False
        """Whether that was heard."""
        self.on_failure: Callable[[BaseException], None] = lambda error: None
        """Called with what a task of the line's own has failed with."""
        self.words: list[str] = []
        """What was heard, where it becomes a message: in Studio and notebooks, never in a served turn."""
        self.id = f"msg_{uuid4().hex[:24]}"
        """Of the assistant message that the turn becomes in Studio and notebooks."""
        self.started = time.perf_counter()
        self.sink: Sink = nowhere
        """Where it ends; set before the first step runs."""
        self._outlets: list[tuple[Place, Outlet]] = []
        self._first: Sink | None = None
        self.on_answer: Callable[[float], None] = lambda milliseconds: None
        """Called once, with the time of the first word."""
        self._timers: list[asyncio.TimerHandle] = []
        self._late: set[asyncio.Task[None]] = set()

    @property
    def heard_words(self) -> bool:
        """Whether words were heard, or are on their way to be."""
        return self.answered or self.promised

    @property
    def connected(self) -> bool:
        """Whether it leads anywhere yet."""
        return self.sink is not nowhere

    async def send(self, event: Event) -> None:
        """Pass one event through the outlets to the sink."""
        await (self._first or self._hear)(event)

    async def _hear(self, event: Event) -> None:
        """The end of the line: here it is known what the caller hears. Thoughts, marks and blanks are no words."""
        if not self.answered and event.audible:
            text = getattr(event, "text", None)
            if text is None or text.strip():
                self.spoken = True
                self.stop_timers()
                if isinstance(event, Say) or (isinstance(event, Transcript) and not event.filler):
                    self.answered = True
                    self.on_answer(self.elapsed_ms())
        if isinstance(event, Action) and self.frames is not None and self.frames.pace is not None:
            await self.frames.pace.heard()  # a host that hangs up must not cut off the goodbye
        await self.sink(event)

    def attach(self, outlet: Outlet, place: Place) -> None:
        """Put an outlet on the line, in front of the sink and of the places behind its own."""
        self._outlets.append((place, outlet))
        self._outlets.sort(key=lambda placed: placed[0])
        sink: Sink = self._hear
        for _, placed in reversed(self._outlets):
            placed.sink, sink = sink, placed.push
        self._first = sink

    def after(self, seconds: float, speak: Callable[[], Awaitable[None]]) -> None:
        """Speak then, unless something has been spoken before."""

        def fire() -> None:
            async def say() -> None:
                if not self.spoken:
                    await speak()

            task = asyncio.ensure_future(say())
            self._late.add(task)
            task.add_done_callback(self._late.discard)

        if not self.spoken:
            self._timers.append(asyncio.get_running_loop().call_later(seconds, fire))

    def stop_timers(self) -> None:
        """Nothing that was to be said later will be."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    async def flush_text(self) -> None:
        """Give on the words that are held back until their sentence ends: something else comes first."""
        for _, outlet in self._outlets:
            await outlet.end_words()

    async def drain_words(self) -> None:
        """Wait until all that was said has left: another sound comes, which does not go through a voice."""
        for _, outlet in self._outlets:
            await outlet.flush()

    async def drain(self) -> None:
        """Stop the timers and wait until the sink has everything."""
        self.stop_timers()
        if self._late:
            await asyncio.gather(*self._late)
        await self.drain_words()

    async def aclose(self) -> None:
        """Stop at once: timers, what they started, and outlets."""
        self.stop_timers()
        for task in list(self._late):
            task.cancel()
        for _, outlet in self._outlets:
            await outlet.aclose()

    def elapsed_ms(self) -> float:
        """Since the turn began."""
        return (time.perf_counter() - self.started) * 1000
