"""The line to the caller: every step of a turn speaks through it, and outlets on it change what is said."""

from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Protocol

from dialgraph.environment import Environment
from dialgraph.turn.delayed_phrases import DelayedPhrases
from dialgraph.turn.events import Action, Event, Filler, Say, Transcript
from dialgraph.turn.frames import Frames
from dialgraph.turn.sound_format import FrameFormat
from dialgraph.turn.times import TurnTimes

Sink = Callable[[Event], Awaitable[None]]
"""Where events end: the channel of the run on the server, LangGraph's stream writer in Studio and notebooks."""


class OutletStage(IntEnum):
    """The position of an outlet on the line. Text must be made fit to be spoken before it becomes sound."""

    TEXT = 0
    SOUND = 1


class Outlet(Protocol):
    """The port of an outlet: a stage between the nodes and the sink that may hold back and change words."""

    sink: Sink
    """Where the outlet sends its events. The line sets it."""

    @property
    def promised(self) -> bool:
        """Return whether it has taken words that the caller is certain to hear."""

    async def push(self, event: Event) -> None:
        """Take one event, and pass on what is ready."""

    async def end_words(self, *, last: bool = False) -> None:
        """Pass on the words that are held back, without waiting until they are played. `last`: the turn ends."""

    async def flush(self) -> None:
        """Pass on everything that is held back, and return when the sink has it."""

    async def aclose(self) -> None:
        """Stop immediately. What is held back is lost."""


def _nobody_records(name: str) -> None:
    """Do nothing: the turn is not recorded."""


async def nowhere(event: Event) -> None:
    raise RuntimeError("A turn can speak only while its graph runs.")


class Line:
    """The one line to the caller, shared by all steps of a turn."""

    def __init__(self, environment: Environment, on_answer: Callable[[float], None]) -> None:
        """Create a line without a sink. `on_answer` is called once, with the milliseconds to the first word."""
        self.spoken = False
        """Whether the caller has heard anything."""
        self.answered = False
        """Whether the caller has heard words. Fillers do not count."""
        self.fired: Callable[[str], None] = _nobody_records
        """Called with the name of each timer of the turn that has fired."""
        self.tap: Callable[[Event], None] | None = None
        """What the sink calls with each event that has left the line."""
        self.late = DelayedPhrases(lambda: not self.spoken, lambda name: self.fired(name))
        self._frames: Frames | None = None
        self._environment = environment
        self.times = TurnTimes(environment.now())
        """The times of the turn. It begins with its line."""
        self._on_answer = on_answer
        self._on_failure: Callable[[BaseException], None] | None = None
        self.sink: Sink = nowhere
        """Where the line ends. `connect` sets it."""
        self._outlets: list[tuple[OutletStage, Outlet]] = []
        self.send: Sink = self._hear
        """Pass one event through the outlets to the sink."""

    @property
    def heard_words(self) -> bool:
        """Return whether the caller has heard words or is certain to hear some."""
        return self.answered or any(outlet.promised for _, outlet in self._outlets)

    @property
    def voiced(self) -> bool:
        """Return whether our voice speaks the words. Then no model is asked for sound."""
        return any(place is OutletStage.SOUND for place, _ in self._outlets)

    @property
    def connected(self) -> bool:
        """Return whether the line has a sink."""
        return self.sink is not nowhere

    def connect(self, sink: Sink) -> None:
        """Connect the line to this sink."""
        self.sink = sink
        self._join()

    def resume(self, *, answered: bool) -> None:
        """Continue a turn that has spoken in an earlier run. `answered`: whether it said more than a filler."""
        self.spoken, self.answered = True, answered
        self._join()

    def watch(self, on_failure: Callable[[BaseException], None] | None) -> None:
        """Call this function with the error if a voice fails. None: call no function."""
        self._on_failure = on_failure

    def fail(self, error: BaseException) -> None:
        """Report that a task of an outlet has failed with this error."""
        if self._on_failure is not None:
            self._on_failure(error)

    def sound(self, manner: Callable[[], FrameFormat]) -> Frames:
        """Return the sound of the turn. The first call creates it in this format; later calls return the same one."""
        if self._frames is None:
            self._frames = Frames(manner(), self._environment)
            self._join()
        return self._frames

    async def _hear(self, event: Event) -> None:
        """Record what the caller hears and pass the event to the sink. Thoughts, marks and blanks are not words."""
        if not self.answered and event.audible:
            text = getattr(event, "text", None)
            if text is None or text.strip():
                self.spoken = True
                self.late.disarm()
                if isinstance(event, Say) or (isinstance(event, Transcript) and not event.filler):
                    self.answered = True
                    self.times.heard = self._environment.now()
                    self._on_answer(self.elapsed_ms())
                    self._join()
                elif isinstance(event, Filler | Transcript):
                    self.times.fillers += 1
        if self._frames is not None and self._frames.pace is not None and isinstance(event, Action):
            await self._frames.pace.heard()  # a host that hangs up must not cut off the goodbye
        await self.sink(event)

    def attach(self, outlet: Outlet, place: OutletStage) -> None:
        """Put an outlet on the line, before the sink and before outlets of a later stage."""
        self._outlets.append((place, outlet))
        self._outlets.sort(key=lambda placed: placed[0])
        self._join()

    def _join(self) -> None:
        """Connect each outlet to the next one, and the last one to the sink.

        It leads to the sink directly if nothing has to be recorded any more.
        """
        sink: Sink = self.sink if self.answered and self._frames is None else self._hear
        for _, placed in reversed(self._outlets):
            placed.sink, sink = sink, placed.push
        self.send = sink

    async def flush_text(self, *, last: bool = False) -> None:
        """Pass on the words that are held back until their sentence ends, because something else comes next.

        `last`: the turn ends, and no more words come.
        """
        for _, outlet in self._outlets:
            await outlet.end_words(last=last)

    async def drain_words(self) -> None:
        """Wait until all words have been sent. Call it before sound that does not go through a voice."""
        for _, outlet in self._outlets:
            await outlet.flush()

    async def catch_up(self) -> None:
        """Wait until the sink has everything that has been said so far. Delayed phrases stay armed."""
        await self.late.begun()
        await self.drain_words()

    async def drain(self) -> None:
        """Cancel the delayed phrases, and wait until the sink has everything."""
        await self.late.settle()
        await self.flush_text(last=True)
        await self.drain_words()

    async def aclose(self) -> None:
        """Stop the delayed phrases and the outlets immediately."""
        self.late.stop()
        for _, outlet in self._outlets:
            await outlet.aclose()

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the turn began."""
        return (self._environment.now() - self.times.started) * 1000
