"""A voice without words: a soft tone as long as speech would be. It shows that sound arrives, on any machine."""

from collections.abc import AsyncGenerator

import numpy as np

from dialgraph.environment import in_thread
from dialgraph.language.words import HAN_CHARACTER
from dialgraph.speech.port import Capabilities, Sound, VoiceAddress

# Spoken Mandarin has about five syllables a second, English about fifteen letters.
_SECONDS_PER_HAN = 0.2
_SECONDS_PER_LETTER = 0.065
_SHORTEST = 0.2
_FADE_SECONDS = 0.02
_CHUNK_SECONDS = 0.2


class ToneVoice:
    """`tone:440` hums at 440 Hz; 16 kHz mono. Whatever voice a request names, it is this one."""

    healthy = True
    capabilities = Capabilities()
    sample_rate = 16_000

    def __init__(self, name: str, address: VoiceAddress) -> None:
        hertz = address.url.partition(":")[2] or "440"
        if not hertz.isdecimal() or not 50 <= int(hertz) <= 4_000:
            raise ValueError(f"voice {name!r}: {hertz!r} is no frequency. Accepted: 50 to 4000 Hz.")
        self._hertz = int(hertz)

    async def speak(self, text: str, voice: str = "") -> AsyncGenerator[Sound, None]:
        """See the port."""
        pcm = await in_thread(tone, spoken_seconds(text), self.sample_rate, self._hertz)
        step = int(_CHUNK_SECONDS * self.sample_rate) * 2
        for start in range(0, len(pcm), step):
            yield Sound(pcm[start : start + step])

    async def prewarm(self) -> None:
        """See the port: nothing takes time."""

    async def aclose(self) -> None:
        """See the port: nothing is open."""


def spoken_seconds(text: str) -> float:
    """About how long a person takes to say it."""
    han = len(HAN_CHARACTER.findall(text))
    return max(_SHORTEST, han * _SECONDS_PER_HAN + (len(text.strip()) - han) * _SECONDS_PER_LETTER)


def tone(seconds: float, sample_rate: int, hertz: float = 440.0, loudness: float = 0.1) -> bytes:
    """A sine that fades in and out, so that it does not click."""
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    fade = np.minimum(1.0, np.minimum(time, seconds - time) / _FADE_SECONDS)
    return bytes((np.sin(2 * np.pi * hertz * time) * fade * loudness * 32767).astype("<i2").tobytes())


def silence(seconds: float, sample_rate: int) -> bytes:
    """Whole samples of nothing."""
    return bytes(int(seconds * sample_rate) * 2)
