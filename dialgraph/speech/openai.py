"""Any server with an OpenAI-style `/audio/speech`: takes a sentence and streams raw PCM or a WAV.

Source: OpenAI's reference of `POST /audio/speech`: `response_format: pcm` is 24 kHz, 16 bit, mono, little-endian and
without a header. Servers that cannot send that send a WAV, which is also accepted.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from dialgraph.speech.http import SpeechClient
from dialgraph.speech.port import Capabilities, Sound, VoiceAddress, VoiceError
from dialgraph.speech.resample import Resampler
from dialgraph.speech.wav import PACKED, Format, WavError, mono16, read_header

LONGEST_SECONDS: Final = 300
"""The longest sound of one sentence. A longer one is not speech."""
_LONGEST_HEADER: Final = 64 * 1024
_PCM_NAMES: Final = frozenset("pcm x-pcm l16 raw x-raw basic wav x-wav wave vnd.wave".split())
_MODEL, _VOICE = "gpt-4o-mini-tts", "alloy"


class OpenAIVoice:
    """A voice at `https://…/v1`, with the model's name, the voice's name and a key."""

    capabilities = Capabilities()

    def __init__(self, name: str, address: VoiceAddress) -> None:
        self._what = f"The voice {name!r}"
        self._model = address.model or _MODEL
        self._usual = address.voice or _VOICE
        self.sample_rate = address.sample_rate
        url = address.url.rstrip("/").removesuffix("/audio/speech")
        self._client = SpeechClient(self._what, url, address.api_key.get_secret_value(), address.deadlines)

    @property
    def healthy(self) -> bool:
        """Return whether the server answered the last request."""
        return self._client.healthy

    async def speak(self, text: str, voice: str = "") -> AsyncGenerator[Sound, None]:
        """Yield the sentence as the server sends it. Closing the generator ends the request."""
        body = {"model": self._model, "input": text, "voice": voice or self._usual, "response_format": "pcm"}
        async with self._client.post("/audio/speech", json=body) as response:
            if not _may_be_pcm(response.content_type):
                told = f"{self._what} sent {response.content_type[:64]!r}. Accepted: raw PCM or WAV."
                raise VoiceError("malformed", told)
            decoder = _Decoder(self._what, self.sample_rate)
            async with aclosing(self._client.parts(response)) as parts:
                async for part in parts:
                    if pcm := decoder.feed(part):
                        yield Sound(pcm)
            if pcm := decoder.end():
                yield Sound(pcm)

    async def prewarm(self) -> None:
        """Open a connection to the server."""
        await self._client.touch()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _may_be_pcm(content_type: str) -> bool:
    """Return whether the type may be PCM. Servers use many names for PCM; text or compressed sound would be noise."""
    kind, _, name = content_type.partition("/")
    if kind == "audio":
        return name in _PCM_NAMES
    return kind == "application" and name == "octet-stream"


class _Decoder:
    """Turns the bytes of a reply into PCM16 mono at one rate. Pure."""

    def __init__(self, what: str, sample_rate: int) -> None:
        self._what = what
        self._rate = sample_rate
        self._held = b""
        self._begun = False
        self._heard = False
        self._format = Format(sample_rate, 1, 16)
        self._resampler: Resampler | None = None
        self._rest: int | None = None
        """The number of bytes of samples still to come, if a header states it."""
        self._left = LONGEST_SECONDS * sample_rate * 2

    def feed(self, data: bytes) -> bytes:
        """Return the samples that can be played so far."""
        self._held += data
        if not self._begun:
            if len(self._held) < 4:
                return b""
            if self._held.startswith(PACKED):  # from a server that ignores the requested format
                raise VoiceError("malformed", f"{self._what} sent compressed sound. Accepted: raw PCM or WAV.")
            if self._held.startswith(b"RIFF") and not self._header():
                return b""
            self._begun = True
        if self._rest is not None:  # anything after a WAV's samples is not sound
            self._held = self._held[: self._rest]
        whole = len(self._held) - len(self._held) % self._format.frame_bytes
        block, self._held = self._held[:whole], self._held[whole:]
        self._rest = None if self._rest is None else self._rest - whole
        return self._bounded(self._at_our_rate(block, last=False))

    def end(self) -> bytes:
        """Return the remaining samples. Raise VoiceError if there was no sound at all."""
        rest = self._bounded(self._at_our_rate(b"", last=True))
        if not rest and not self._heard:
            raise VoiceError("malformed", f"{self._what} sent no sound.")
        return rest

    def _header(self) -> bool:
        try:
            found = read_header(self._held)
        except WavError as error:
            raise VoiceError("malformed", f"{self._what} sent a WAV that {error}.") from None
        if found is None:
            if len(self._held) > _LONGEST_HEADER:
                raise VoiceError("malformed", f"{self._what} sent a WAV without sound.")
            return False
        self._format, offset, self._rest = found
        self._held = self._held[offset:]
        if self._format.sample_rate != self._rate:
            self._resampler = Resampler(self._format.sample_rate, self._rate)
        return True

    def _at_our_rate(self, block: bytes, *, last: bool) -> bytes:
        pcm = mono16(block, self._format)
        return pcm if self._resampler is None else self._resampler.feed(pcm, last=last)

    def _bounded(self, pcm: bytes) -> bytes:
        self._left -= len(pcm)
        self._heard = self._heard or bool(pcm)
        if self._left < 0:
            raise VoiceError("malformed", f"{self._what} sent more than {LONGEST_SECONDS} s for one sentence.")
        return pcm
