"""The Voice port, and the table from URL scheme to engine."""

from collections.abc import AsyncGenerator
from importlib import import_module
from typing import Protocol, cast
from urllib.parse import urlsplit


class Voice(Protocol):
    """Speaks text. An instance serves the whole process and is used by many turns at once."""

    sample_rate: int
    """Samples a second."""

    def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """PCM16 mono, little-endian, in chunks of whole samples."""


ENGINES = {"tone": "speech.tone:ToneVoice"}


def open_voice(name: str, url: str) -> Voice:
    """The engine that the URL names. `name` is what settings and graphs call it; errors say it."""
    scheme = urlsplit(url).scheme
    if scheme not in ENGINES:
        raise ValueError(f"voice {name!r}: no engine for {scheme!r}. Accepted: {', '.join(sorted(ENGINES))}.")
    module, attribute = ENGINES[scheme].split(":")
    return cast(Voice, getattr(import_module(module), attribute)(url))
