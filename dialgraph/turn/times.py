"""The times of one turn: marks that are set on the way, and the parts into which they divide the wait of the caller.

The parts follow each other without gaps, so they add up to the time from the request to the first word (or sound).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dialgraph.turn.events import Timing

PartKind = Literal["read", "admission", "step", "model", "graph", "held", "send", "voice"]
"""What a part of the wait was spent on:

`read`: receiving, authenticating and reading the request. `admission`: limits, budgets and the start of the run.
`step`: a step of the graph. `model`: from a request to a model until the first event of its answer. `graph`: between
two steps. `held`: words that the outlets held back until they were checked. `voice`: from the first word until its
first sound. `send`: from there until the bytes were written to the socket.
"""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the wait."""

    kind: PartKind
    name: str
    """The step, or the step that asks the model. Empty for other kinds."""
    ms: float

    def __str__(self) -> str:
        """Return the part as logs and the header Server-Timing name it: `retrieve`, `call_model.model`, `held`."""
        if self.kind == "step":
            return self.name
        return f"{self.name}.{self.kind}" if self.name else self.kind


@dataclass(slots=True)
class ModelTime:
    """The times of one call of a model, in seconds on the environment's clock. 0: it has not happened."""

    step: str
    model: str
    """The name of the model in the settings."""
    asked: float
    first: float = 0.0
    """When the first event of the answer came."""
    ended: float = 0.0
    error: str = ""
    """The kind of the error, if it failed."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """The prompt tokens that the provider had in its cache."""
    estimated: bool = False
    upstream_model: str = ""
    """The upstream's name of the model that was asked for; empty: the one in the settings."""


@dataclass(slots=True)
class ToolTime:
    """The times of one call of a tool that ran on this server."""

    step: str
    tool: str
    """The name of the tool. Empty: a tool that the model made up."""
    began: float
    ended: float = 0.0
    outcome: Literal["ok", "error", "timeout"] = "error"


@dataclass(slots=True)
class ReplyMarks:
    """The marks of one reply to a client, in seconds on the environment's clock. 0: it has not happened."""

    came: float
    """When the request came."""
    read: float
    """When it was read and its client was known."""
    filler: float = 0.0
    """When the first filler was written to the socket."""
    word: float = 0.0
    """When the first word of the answer was written."""
    audio: float = 0.0
    """When the first sound of the answer was written."""


@dataclass(slots=True)
class TurnTimes:
    """The marks of one turn, in seconds on the environment's clock. 0: it has not happened."""

    started: float
    """When the run of the turn was started."""
    spoken: float = 0.0
    """When a step first said something that is no filler."""
    heard: float = 0.0
    """When the first word left the outlets."""
    steps: list[Timing] = field(default_factory=list)
    """The steps that have ended."""
    open_steps: dict[str, float] = field(default_factory=dict)
    """The steps that run, each with when it began."""
    models: list[ModelTime] = field(default_factory=list)
    tools: list[ToolTime] = field(default_factory=list)
    fillers: int = 0
    reply: ReplyMarks | None = None
    """The marks of the first client's reply."""
    stopped: float = 0.0
    """When the turn was stopped before its end."""
    ended: float = 0.0
    """When nothing of the turn was active any more."""
    tokens: int = 0
    """All tokens of the turn, once it has ended."""
    cost_usd: float | None = None
    guarded: dict[str, int] = field(default_factory=dict)
    """How often each rule of the guard has found something."""

    def parts(self, reply: ReplyMarks, now: float) -> list[Part]:
        """Return the parts of the wait for the first word of a reply, or for its first sound, if words become sound.

        `now`: the end of the wait, if there is neither yet.
        """
        began, sound = reply.came, bool(reply.audio)
        reached = max(reply.audio or reply.word or now, began)
        read = _between(began, reply.read, reached)
        started = _between(read, self.started, reached)
        found = [Part("read", "", _ms(read - began)), Part("admission", "", _ms(started - read))]
        spoken = _between(started, self.spoken or reached, reached)
        heard = _between(spoken, self.heard or spoken, reached)
        found += self._run_parts(started, spoken)
        if sound:
            return [*found, Part("voice", "", _ms(reached - spoken))]
        return [*found, Part("held", "", _ms(heard - spoken)), Part("send", "", _ms(reached - heard))]

    def _run_parts(self, start: float, end: float) -> Iterator[Part]:
        """Yield the parts from the start of the run until somebody spoke, in their order."""
        if start >= end:
            return
        run = self.started
        steps = [(run + one.started_ms / 1000, run + one.ended_ms / 1000, one.step) for one in self.steps]
        steps += [(began, end, step) for step, began in self.open_steps.items()]
        models = [(model.asked, model.first or model.ended or end, model.step) for model in self.models]
        edges = {edge for spans in (steps, models) for span in spans for edge in span[:2] if start < edge < end}
        at, waits = start, _waited_for(start, steps, models)
        for edge in sorted(edges):
            if (following := _waited_for(edge, steps, models)) != waits:
                yield Part(*waits, _ms(edge - at))
                at, waits = edge, following
        yield Part(*waits, _ms(end - at))


_Span = tuple[float, float, str]
"""Begin, end and name of a step; or of a wait for a model, with the name of its step."""


def _waited_for(at: float, steps: Sequence[_Span], models: Sequence[_Span]) -> tuple[PartKind, str]:
    """Return what the caller waits for from this moment on.

    Of several steps at the same time, it is the one that ends last. A call of a model is inside its step.
    """
    until, name = 0.0, ""
    for began, ended, step in steps:
        if began <= at < ended and ended > until:
            until, name = ended, step
    for began, ended, step in models:
        if began <= at < ended and (step == name or not until):
            return "model", step
    return ("step", name) if until else ("graph", "")


def _between(low: float, value: float, high: float) -> float:
    return min(max(value, low), high)


def _ms(seconds: float) -> float:
    return seconds * 1000


def times_data(marks: ReplyMarks, ended: float, parts: Mapping[str, float]) -> dict[str, Any]:
    """Return the times of a reply in milliseconds since its request, as JSON data."""
    known = {"filler_ms": marks.filler, "first_word_ms": marks.word, "first_audio_ms": marks.audio, "total_ms": ended}
    return {**{name: round((mark - marks.came) * 1000, 1) for name, mark in known.items() if mark}, "parts": parts}


def summed(parts: Sequence[Part]) -> Mapping[str, float]:
    """Return the milliseconds of the parts by name, in the order of their beginnings. Equal names are added up."""
    found: dict[str, float] = {}
    for part in parts:
        found[str(part)] = found.get(str(part), 0.0) + part.ms
    return {name: round(ms, 3) for name, ms in found.items()}
