"""A voice without words: a soft tone as long as the speech would be. It proves on any machine that sound arrives."""

from collections.abc import AsyncGenerator

import numpy as np

from dialgraph.environment import in_thread
from dialgraph.language.words import HAN_CHARACTER
from dialgraph.speech.port import Capabilities, Sound, VoiceAddress

# Spoken Mandarin has about five syllables a second, spoken English about fifteen letters.
_SECONDS_PER_HAN = 0.2
_SECONDS_PER_LETTER = 0.065
_SHORTEST = 0.2
_FADE_SECONDS = 0.02
_CHUNK_SECONDS = 0.2


class ToneVoice:
    """`tone:440` hums at 440 Hz, in 16 kHz mono. It ignores the voice that a request names."""

    healthy = True
    capabilities = Capabilities()
    sample_rate = 16_000

    def __init__(self, name: str, address: VoiceAddress) -> None:
        hertz = address.url.partition(":")[2] or "440"
        if not hertz.isdecimal() or not 50 <= int(hertz) <= 4_000:
            raise ValueError(f"voice {name!r}: {hertz!r} is not a frequency. Accepted: 50 to 4000 Hz.")
        self._hertz = int(hertz)

    async def speak(self, text: str, voice: str = "") -> AsyncGenerator[Sound, None]:
        """Yield a tone as long as the text would take to say."""
        pcm = await in_thread(tone, spoken_seconds(text), self.sample_rate, self._hertz)
        step = int(_CHUNK_SECONDS * self.sample_rate) * 2
        for start in range(0, len(pcm), step):
            yield Sound(pcm[start : start + step])

    async def prewarm(self) -> None:
        """Do nothing: there is nothing to prepare."""

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""


def spoken_seconds(text: str) -> float:
    """Return roughly how many seconds a person takes to say the text."""
    han = len(HAN_CHARACTER.findall(text))
    return max(_SHORTEST, han * _SECONDS_PER_HAN + (len(text.strip()) - han) * _SECONDS_PER_LETTER)


def tone(seconds: float, sample_rate: int, hertz: float = 440.0, loudness: float = 0.1) -> bytes:
    """Return a sine wave as PCM16 mono. It fades in and out, so that it does not click."""
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    fade = np.minimum(1.0, np.minimum(time, seconds - time) / _FADE_SECONDS)
    return bytes((np.sin(2 * np.pi * hertz * time) * fade * loudness * 32767).astype("<i2").tobytes())


def silence(seconds: float, sample_rate: int) -> bytes:
    """Return silence, as whole PCM16 samples."""
    return bytes(int(seconds * sample_rate) * 2)
