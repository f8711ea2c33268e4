"""The Transcriber port: speech in, its words out; and the table from URL scheme to engine."""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol, cast
from urllib.parse import urlsplit

from speech.port import Deadlines


class Transcriber(Protocol):
    """Understands speech. An instance serves the whole process."""

    async def transcribe(self, sound: bytes, form: str) -> str:
        """The words of a file in this form (`wav`, `mp3` …). Raises VoiceError."""

    async def aclose(self) -> None:
        """Give back what is open."""


@dataclass(frozen=True, slots=True)
class TranscriberAddress:
    """Where a transcriber is: what the settings say of one name."""

    url: str
    model: str = ""
    """The server's name of the model."""
    language: str = ""
    """What callers speak, as ISO 639-1 has it; empty: the server listens for itself."""
    api_key: str = field(default="", repr=False)
    deadlines: Deadlines = field(default_factory=Deadlines)


ENGINES = {
    "http": "speech.openai_transcriber:OpenAITranscriber",
    "https": "speech.openai_transcriber:OpenAITranscriber",
}


def open_transcriber(name: str, address: TranscriberAddress) -> Transcriber:
    """The engine that the URL names."""
    scheme = urlsplit(address.url).scheme
    if scheme not in ENGINES:
        raise ValueError(f"transcriber {name!r}: no engine for {scheme!r}. Accepted: {', '.join(sorted(ENGINES))}.")
    module, attribute = ENGINES[scheme].split(":")
    return cast(Transcriber, getattr(import_module(module), attribute)(name, address))
