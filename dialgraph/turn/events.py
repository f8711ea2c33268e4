"""The events that a node can emit: frozen values. Events that a model can emit too are defined in dialgraph/models/."""

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
    """Words that only fill a silence. The host's profile says how they must end so that they are spoken immediately."""

    audible: ClassVar[bool] = True
    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """What the host should do with the call after all words: at most one per turn, in the host's own form."""

    audible: ClassVar[bool] = True
    id: str
    kind: ActionKind
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Our names: `reason` and `message` of a hangup, `number` and `message` of a transfer, and `digits`."""
    given: str = ""
    """The host's own arguments as JSON text, if the model called the host's tool itself."""
    tool: str = ""
    """The name of the tool, if the author set one. Empty: the tool of the profile."""
    command: str = ""
    """A text that the host obeys, in place of a tool call."""
    finish: str = ""
    """The finish reason after the action. Empty: the one of the profile."""
    form: ActionForm | None = None
    """The form of the action for this turn's host. None: the form of the profile."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """How the host should speak this turn (`interruptable`, `tts_params`). It is sent only to hosts that read it."""

    audible: ClassVar[bool] = False
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Citation:
    """The place of a passage in its document."""

    document: str
    heading: str
    page: int | None
    start: int
    end: int
    """`start` and `end` are positions in the document's text, in characters."""
    score: float


@dataclass(frozen=True, slots=True)
class Citations:
    """The passages that the answer is based on. They are sent next to the speech and never spoken."""

    audible: ClassVar[bool] = False
    passages: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """The words that the audio with this id speaks. Agora stores them as the agent's memory."""

    audible: ClassVar[bool] = True
    id: str
    text: str
    filler: bool = False
    """Whether it only fills a silence."""


@dataclass(frozen=True, slots=True)
class Audio:
    """A frame of PCM16 mono sound, little-endian. In WAV format the first frame begins with the header."""

    audible: ClassVar[bool] = True
    id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Words:
    """When the words of the audio with this id are spoken, in milliseconds from its first sample."""

    audible: ClassVar[bool] = False
    id: str
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of a step that has ended. It is for timelines and never sent to the client."""

    audible: ClassVar[bool] = False
    step: str
    started_ms: float
    """Milliseconds since the turn began."""
    ended_ms: float
    outcome: Literal["ok", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class Fallback:
    """The last event of a failed run, if the host wants words. The words replace the rest of the answer.

    They may be empty. Actions that were emitted before are cancelled.
    """

    audible: ClassVar[bool] = True
    text: str
    error: Exception
    """The error that the run failed with."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The last event of a failed run, if the client gets an error."""

    audible: ClassVar[bool] = False
    error: Exception
    quiet: bool = False
    """Whether a reply that has begun should end normally, because nobody waits for it any more."""


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
    """Return the event as JSON data with its type, for Studio and notebooks."""
    data = asdict(event)
    if isinstance(event, Audio):
        data["data"] = f"{len(event.data)} bytes"
    return {"type": type(event).__name__, **data}
