"""What a node can say: plain frozen values. Those a model can say too are defined with the models."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Literal

from dialgraph.models.parts import Finish, Relay, Say, ToolCallPart, Usage
from dialgraph.profiles.profile import ActionForm, ActionKind
from dialgraph.speech.port import Word

__all__ = [
    "Action",
    "Audio",
    "Citation",
    "Citations",
    "Event",
    "Failed",
    "Fallback",
    "Filler",
    "Finish",
    "Metadata",
    "Relay",
    "Say",
    "Timing",
    "ToolCallPart",
    "Transcript",
    "Usage",
    "Words",
    "as_data",
]


@dataclass(frozen=True, slots=True)
class Filler:
    """Words that only fill a silence. How they must end so that the host speaks them at once is the host's dialect."""

    audible: ClassVar[bool] = True
    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """What the host is to do with the call when all words are out: at most one a turn, in the host's own form."""

    audible: ClassVar[bool] = True
    id: str
    kind: ActionKind
    arguments: Mapping[str, str] = field(default_factory=dict)
    """In our words: `reason` and `message` of a hangup, `number` and `message` of a transfer, `digits`."""
    given: str = ""
    """The host's own arguments as JSON text, where the model called the host's tool itself."""
    tool: str = ""
    """The tool's name, where the graph's author names one; empty: the profile's."""
    command: str = ""
    """Text that the host obeys, in place of a tool call."""
    finish: str = ""
    """The finish reason behind it; empty: the profile's."""
    form: ActionForm | None = None
    """How this turn's host is told; None: as its profile says."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """How the host is to speak this turn (`interruptable`, `tts_params`); sent only where the host reads it."""

    audible: ClassVar[bool] = False
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a passage stands."""

    document: str
    heading: str
    page: int | None
    start: int
    end: int
    """In the document's text, in characters."""
    score: float


@dataclass(frozen=True, slots=True)
class Citations:
    """What the answer was found in. Travels beside the speech, never in it."""

    audible: ClassVar[bool] = False
    passages: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """The words that the audio with this id speaks. Agora keeps them as the agent's memory."""

    audible: ClassVar[bool] = True
    id: str
    text: str
    filler: bool = False
    """Whether it only fills a silence."""


@dataclass(frozen=True, slots=True)
class Audio:
    """A frame of PCM16 mono, little-endian; in a WAV the first one has its header."""

    audible: ClassVar[bool] = True
    id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Words:
    """When words of the audio with this id are heard, in milliseconds from its first sample."""

    audible: ClassVar[bool] = False
    id: str
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """A step has ended. For timelines, never for the caller."""

    audible: ClassVar[bool] = False
    step: str
    started_ms: float
    """Since the turn began."""
    ended_ms: float
    outcome: Literal["ok", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class Fallback:
    """The last event of a run that failed, where the host wants words: they stand for the rest of the answer.

    They may be empty. Actions that were asked for before are cancelled.
    """

    audible: ClassVar[bool] = True
    text: str
    error: Exception
    """What it failed with."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a run that failed, where the caller gets an error."""

    audible: ClassVar[bool] = False
    error: Exception
    quiet: bool = False
    """Whether a reply that has begun ends normally, because nobody waits for it any more."""


Event = (
    Say
    | Filler
    | Action
    | Metadata
    | Citations
    | ToolCallPart
    | Relay
    | Transcript
    | Audio
    | Words
    | Usage
    | Finish
    | Timing
    | Fallback
    | Failed
)


def as_data(event: Event) -> Mapping[str, object]:
    """The event as JSON data with its type, for Studio and notebooks."""
    data = asdict(event)
    if isinstance(event, Audio):
        data["data"] = f"{len(event.data)} bytes"
    return {"type": type(event).__name__, **data}
