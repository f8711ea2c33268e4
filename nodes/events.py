"""What a node can say: plain frozen values. Those a model can say too are defined with the models."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

from models.answer import Finish, Relay, Say, ToolCallPart, Usage

__all__ = [
    "Audio",
    "Event",
    "Finish",
    "Relay",
    "Say",
    "Timing",
    "ToolCall",
    "ToolCallPart",
    "Transcript",
    "Usage",
    "as_data",
]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of ours, whole: `hangup` and its like."""

    audible: ClassVar[bool] = True
    id: str
    name: str
    arguments: str = "{}"
    """JSON text."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """The words that the audio with this id speaks. Agora keeps them as the agent's memory."""

    audible: ClassVar[bool] = True
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Audio:
    """PCM16 mono, little-endian, whole samples."""

    audible: ClassVar[bool] = True
    id: str
    pcm: bytes


@dataclass(frozen=True, slots=True)
class Timing:
    """A step has ended. For timelines, never for the caller."""

    audible: ClassVar[bool] = False
    step: str
    started_ms: float
    """Since the turn began."""
    ended_ms: float
    outcome: Literal["ok", "timeout", "error"]


Event = Say | ToolCall | ToolCallPart | Relay | Transcript | Audio | Usage | Finish | Timing


def as_data(event: Event) -> Mapping[str, object]:
    """The event as JSON data with its type, for Studio and notebooks."""
    data = asdict(event)
    if isinstance(event, Audio):
        data["pcm"] = f"{len(event.pcm)} bytes"
    return {"type": type(event).__name__, **data}
