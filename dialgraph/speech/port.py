"""The Voice port, and the table from URL scheme to engine."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, cast

import pydantic.dataclasses
from pydantic import Field, SecretStr

from dialgraph.engines import ADDRESS, LONGEST_SECONDS, engine_of

Kind = Literal[
    "unreachable",  # no connection
    "timeout",  # no first sound in time
    "stalled",  # silence inside a started answer
    "rejected",  # a name or a text that the engine does not take
    "unauthorized",  # its server refused the key
    "not_found",
    "rate_limited",
    "unavailable",
    "failed",  # any other failure, also of an engine's process
    "malformed",  # what came is no sound
    "incomplete",  # cut off in the middle
]
KINDS_BY_STATUS: dict[int, Kind] = {
    400: "rejected",
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    413: "rejected",
    422: "rejected",
    429: "rate_limited",
    503: "unavailable",
    504: "timeout",
}
"""What a server's status means; any other is `failed`."""


class VoiceError(Exception):
    """A voice did not speak, or speech was not understood. The message names no address, key or body."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind


class Word(NamedTuple):
    """When a word is heard, in milliseconds from the first sample of what is spoken."""

    text: str
    start_ms: int
    end_ms: int


class Sound(NamedTuple):
    """A part of what is spoken."""

    pcm: bytes
    """PCM16 mono, little-endian, whole samples."""
    words: tuple[Word, ...] = ()
    """Those that begin in it, where the engine knows them."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a voice can do."""

    words: bool = False
    """Whether it tells when each word is heard."""
    languages: tuple[str, ...] = ()
    """Those that it speaks, as BCP 47 begins them; empty: its server knows."""
    voices: tuple[str, ...] = ()
    """The names that a request may ask for, beside the usual one; empty: its server knows."""


class Voice(Protocol):
    """Speaks text. An instance serves the whole process and is used by many turns at once."""

    capabilities: Capabilities
    sample_rate: int
    """Samples a second."""

    @property
    def healthy(self) -> bool:
        """Whether its server answered the last time it was asked."""

    def speak(self, text: str, voice: str = "") -> AsyncGenerator[Sound, None]:
        """A sentence, as soon as it comes; `voice` is one of the engine's names. Raises VoiceError.

        Closing the generator ends the engine's work at once.
        """

    async def prewarm(self) -> None:
        """Do before the first call what would make it slow. Failing is allowed, and silent."""

    async def aclose(self) -> None:
        """Give back what is open."""


def refuse_unknown(name: str, voice: Voice, asked: str) -> None:
    """Raise VoiceError for a voice that this engine surely does not have, before anything is spoken."""
    known = voice.capabilities.voices
    if asked and known and asked.lower() not in known:
        raise VoiceError("rejected", f"The voice {name!r} has no {asked[:64]!r}. Accepted: {', '.join(known)}.")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a speech server may take, in seconds."""

    connect: float = 3.0
    first_byte: float = 5.0
    idle: float = 3.0
    """A voice that pauses for longer inside a sentence has stopped; the caller hears nothing meanwhile."""


@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=ADDRESS)
class VoiceAddress:
    """Where a voice is: the settings of one name. A string alone is its URL."""

    url: str
    """`espeak:`, `tone:440`, or `https://…/v1` of any server with an OpenAI-style `/audio/speech`."""
    model: str = ""
    """The server's name of the model."""
    voice: str = ""
    """The voice for requests that name none, by the engine's name; empty: the engine's own."""
    api_key: SecretStr = SecretStr("")
    sample_rate: int = Field(default=24_000, ge=8_000, le=48_000)
    """Of a server's raw PCM, which does not tell it; OpenAI's has 24 kHz."""
    connect_seconds: float = Field(default=3.0, gt=0, le=LONGEST_SECONDS)
    first_byte_seconds: float = Field(default=5.0, gt=0, le=LONGEST_SECONDS)
    idle_seconds: float = Field(default=3.0, gt=0, le=LONGEST_SECONDS)

    @property
    def deadlines(self) -> Deadlines:
        """How long its server may take."""
        return Deadlines(self.connect_seconds, self.first_byte_seconds, self.idle_seconds)


ENGINES = {
    "espeak": "dialgraph.speech.espeak:EspeakVoice",
    "http": "dialgraph.speech.openai:OpenAIVoice",
    "https": "dialgraph.speech.openai:OpenAIVoice",
    "tone": "dialgraph.speech.tone:ToneVoice",
}


def open_voice(name: str, address: VoiceAddress) -> Voice:
    """Return the engine that the address names. `name` is what settings, graphs and errors call it."""
    return cast(Voice, engine_of("voice", name, address.url, ENGINES)(name, address))
