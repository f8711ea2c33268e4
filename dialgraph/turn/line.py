"""The line to the caller's ear: what every step of a turn speaks through, and the outlets on it."""

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Protocol

from dialgraph.environment import Environment
from dialgraph.turn.delayed_phrases import DelayedPhrases
from dialgraph.turn.events import Action, Event, Say, Transcript
from dialgraph.turn.frames import Frames
from dialgraph.turn.sound_format import FrameFormat

Sink = Callable[[Event], Awaitable[None]]
"""Where events end: our event log when we serve, LangGraph's stream writer in Studio and notebooks."""


class OutletStage(IntEnum):
    """Where on the line an outlet stands, whenever it comes: text is made fit to be said before it becomes sound."""

    TEXT = 0
    SOUND = 1


class Outlet(Protocol):
    """A stage between the nodes and the sink that may hold words back and turn them into something else."""

    sink: Sink
    """What comes behind it; set by the line."""

    @property
    def promised(self) -> bool:
        """Whether it has taken words that are certain to be heard."""

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

    def __init__(self, environment: Environment, on_answer: Callable[[float], None]) -> None:
        """`on_answer` is called once, with the milliseconds to the first word."""
        self.spoken = False
        """Whether anything was heard."""
        self.answered = False
        """Whether words were heard; an acknowledgement that came by itself does not count."""
        self.late = DelayedPhrases(lambda: not self.spoken)
        self._frames: Frames | None = None
        self._environment = environment
        self._started = environment.now()
        self._on_answer = on_answer
        self._on_failure: Callable[[BaseException], None] | None = None
        self.sink: Sink = nowhere
        """Where it ends; see `connect`."""
        self._outlets: list[tuple[OutletStage, Outlet]] = []
        self.send: Sink = self._hear
        """Pass one event through the outlets to the sink."""

    @property
    def heard_words(self) -> bool:
        """Whether words were heard, or are certain to be."""
        return self.answered or any(outlet.promised for _, outlet in self._outlets)

    @property
    def voiced(self) -> bool:
        """Whether words leave as sound of ours; then no model is asked for its own."""
        return any(place is OutletStage.SOUND for place, _ in self._outlets)

    @property
    def connected(self) -> bool:
        """Whether it leads anywhere yet."""
        return self.sink is not nowhere

    def connect(self, sink: Sink) -> None:
        """Let it end here."""
        self.sink = sink
        self._join()

    def watch(self, on_failure: Callable[[BaseException], None] | None) -> None:
        """Tell this function what a voice has failed with; None: nobody."""
        self._on_failure = on_failure

    def fail(self, error: BaseException) -> None:
        """A task of an outlet has failed with this."""
        if self._on_failure is not None:
            self._on_failure(error)

    def sound(self, manner: Callable[[], FrameFormat]) -> Frames:
        """Return the turn's sound. The first call makes it, with this manner; later calls get the same one."""
        if self._frames is None:
            self._frames = Frames(manner(), self._environment)
            self._join()
        return self._frames

    async def _hear(self, event: Event) -> None:
        """The end of the line: here it is known what the caller hears. Thoughts, marks and blanks are no words."""
        if not self.answered and event.audible:
            text = getattr(event, "text", None)
            if text is None or text.strip():
                self.spoken = True
                self.late.disarm()
                if isinstance(event, Say) or (isinstance(event, Transcript) and not event.filler):
                    self.answered = True
                    self._on_answer(self.elapsed_ms())
                    self._join()
        if self._frames is not None and self._frames.pace is not None and isinstance(event, Action):
            await self._frames.pace.heard()  # a host that hangs up must not cut off the goodbye
        await self.sink(event)

    def attach(self, outlet: Outlet, place: OutletStage) -> None:
        """Put an outlet on the line, in front of the sink and of the places behind its own."""
        self._outlets.append((place, outlet))
        self._outlets.sort(key=lambda placed: placed[0])
        self._join()

    def _join(self) -> None:
        """Let each outlet lead to the next one, and the last one to the sink: at once if nothing is to be noticed."""
        sink: Sink = self.sink if self.answered and self._frames is None else self._hear
        for _, placed in reversed(self._outlets):
            placed.sink, sink = sink, placed.push
        self.send = sink

    async def flush_text(self) -> None:
        """Give on the words that are held back until their sentence ends: something else comes first."""
        for _, outlet in self._outlets:
            await outlet.end_words()

    async def drain_words(self) -> None:
        """Wait until all that was said has left: another sound comes, which does not go through a voice."""
        for _, outlet in self._outlets:
            await outlet.flush()

    async def drain(self) -> None:
        """Cancel what would be said later, and wait until the sink has everything."""
        await self.late.settle()
        await self.drain_words()

    async def aclose(self) -> None:
        """Stop at once: what would be said later, and the outlets."""
        self.late.stop()
        for _, outlet in self._outlets:
            await outlet.aclose()

    def elapsed_ms(self) -> float:
        """Since the turn began."""
        return (self._environment.now() - self._started) * 1000
