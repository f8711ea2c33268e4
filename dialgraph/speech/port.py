"""The Voice port, and the table from URL scheme to engine."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import pydantic.dataclasses
from pydantic import Field, SecretStr

from dialgraph.engines import ADDRESS, LONGEST_SECONDS, engine_of
from dialgraph.http_client import Kind


class VoiceError(Exception):
    """A voice did not speak, or speech was not transcribed. The message contains no address, key or body."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind


class Word(NamedTuple):
    """The time at which a word is heard, in milliseconds from the first sample of the speech."""

    text: str
    start_ms: int
    end_ms: int


class Sound(NamedTuple):
    """A part of the speech."""

    pcm: bytes
    """PCM16 mono, little-endian, whole samples."""
    words: tuple[Word, ...] = ()
    """The words that begin in this part, if the engine knows them."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The features of a voice."""

    words: bool = False
    """Whether it reports the time of each word."""
    languages: tuple[str, ...] = ()
    """The languages that it speaks, as the first part of BCP 47 tags; empty: only its server knows them."""
    voices: tuple[str, ...] = ()
    """The names that a request may use, in addition to the usual one; empty: only its server knows them."""


class Voice(Protocol):
    """Speaks text. One instance serves the whole process; many turns use it at the same time."""

    capabilities: Capabilities
    sample_rate: int
    """Samples per second."""

    @property
    def healthy(self) -> bool:
        """Return whether its server answered the last request."""

    def speak(self, text: str, voice: str = "") -> AsyncGenerator[Sound, None]:
        """Yield the speech for a sentence as it becomes available. `voice` is one of the engine's names.

        Raise VoiceError. Closing the generator stops the engine's work immediately.
        """

    async def prewarm(self) -> None:
        """Do in advance what would slow down the first call. A failure raises nothing."""

    async def aclose(self) -> None:
        """Close everything that is open."""


def refuse_unknown(name: str, voice: Voice, asked: str) -> None:
    """Raise VoiceError before anything is spoken, if this engine is known not to have the voice."""
    known = voice.capabilities.voices
    if asked and known and asked.lower() not in known:
        raise VoiceError("rejected", f"The voice {name!r} has no {asked[:64]!r}. Accepted: {', '.join(known)}.")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a speech server may take, in seconds."""

    connect: float = 3.0
    first_byte: float = 5.0
    idle: float = 3.0
    """A voice that pauses for longer in a sentence has stopped. The caller hears nothing during the pause."""


@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=ADDRESS)
class VoiceAddress:
    """The address of a voice: the settings under one name. A string alone is its URL."""

    url: str
    """`espeak:`, `tone:440`, or `https://…/v1` of any server with an OpenAI-style `/audio/speech`."""
    model: str = ""
    """The server's name of the model."""
    voice: str = ""
    """The engine's voice for requests that do not name one; empty: the engine's default."""
    api_key: SecretStr = SecretStr("")
    sample_rate: int = Field(default=24_000, ge=8_000, le=48_000)
    """The sample rate of a server's raw PCM, which does not state it. OpenAI's is 24 kHz."""
    connect_seconds: float = Field(default=3.0, gt=0, le=LONGEST_SECONDS)
    first_byte_seconds: float = Field(default=5.0, gt=0, le=LONGEST_SECONDS)
    idle_seconds: float = Field(default=3.0, gt=0, le=LONGEST_SECONDS)

    @property
    def deadlines(self) -> Deadlines:
        """Return how long the server may take."""
        return Deadlines(self.connect_seconds, self.first_byte_seconds, self.idle_seconds)


ENGINES = {
    "espeak": "dialgraph.speech.espeak:EspeakVoice",
    "http": "dialgraph.speech.openai:OpenAIVoice",
    "https": "dialgraph.speech.openai:OpenAIVoice",
    "tone": "dialgraph.speech.tone:ToneVoice",
}


def open_voice(name: str, address: VoiceAddress) -> Voice:
    """Return the engine for the address. `name` is its name in settings, graphs and errors."""
    return cast(Voice, engine_of("voice", name, address.url, ENGINES)(name, address))
