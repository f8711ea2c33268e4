"""The Transcriber port, which turns speech into text, and the table from URL scheme to engine."""

from typing import Protocol, cast

from pydantic import Field, SecretStr
from pydantic.dataclasses import dataclass

from dialgraph.engines import ADDRESS, LONGEST_SECONDS, engine_of
from dialgraph.speech.port import Deadlines


class Transcriber(Protocol):
    """Turns speech into text. One instance serves the whole process."""

    async def transcribe(self, sound: bytes, form: str) -> str:
        """Return the words of an audio file in this format (`wav`, `mp3` …). Raise VoiceError."""

    async def aclose(self) -> None:
        """Close everything that is open."""


@dataclass(frozen=True, slots=True, config=ADDRESS)
class TranscriberAddress:
    """The address of a transcriber: the settings under one name. A string alone is its URL."""

    url: str
    """`https://…/v1` of any server with an OpenAI-style `/audio/transcriptions`."""
    model: str = ""
    """The server's name of the model."""
    language: str = ""
    """The callers' language, in ISO 639-1; empty: the server detects it."""
    api_key: SecretStr = SecretStr("")
    connect_seconds: float = Field(default=3.0, gt=0, le=LONGEST_SECONDS)
    first_byte_seconds: float = Field(default=5.0, gt=0, le=LONGEST_SECONDS)

    @property
    def deadlines(self) -> Deadlines:
        """Return how long the server may take."""
        return Deadlines(self.connect_seconds, self.first_byte_seconds)


ENGINES = {
    "http": "dialgraph.speech.openai_transcriber:OpenAITranscriber",
    "https": "dialgraph.speech.openai_transcriber:OpenAITranscriber",
}


def open_transcriber(name: str, address: TranscriberAddress) -> Transcriber:
    """Return the engine for the address. `name` is its name in settings, graphs and errors."""
    return cast(Transcriber, engine_of("transcriber", name, address.url, ENGINES)(name, address))
