"""Sound in pieces of any length and rate → frames of one length, in the form that the caller asked for."""

from collections.abc import Iterator

from dialgraph.environment import Environment
from dialgraph.speech.port import VoiceError
from dialgraph.speech.resample import Resampler
from dialgraph.speech.wav import header
from dialgraph.turn.pacing import Pace
from dialgraph.turn.sound_format import FrameFormat

OURS = "audio_d1a106"
"""How the ids of our sounds begin: no provider knows them."""


class Frames:
    """One turn's sound, from its first sample to its last, whoever makes it: one id, one header, one clock."""

    def __init__(self, manner: FrameFormat, environment: Environment) -> None:
        self.id = environment.id(OURS, 18)
        self.manner = manner
        self.pace = Pace(manner.frame_seconds, environment.now) if manner.paced else None
        """Of all that is heard, whoever makes it."""
        self.ends = ""
        """The last sign of the words that were put in."""
        self._head = header(manner.sample_rate) if manner.format == "wav" else b""
        self._resampler: Resampler | None = None
        self._held = bytearray()
        self._samples = 0

    @property
    def elapsed_ms(self) -> int:
        """How much has been cut off, which is when the next piece begins to be heard."""
        return self._samples * 1000 // self.manner.sample_rate

    def begin(self, sample_rate: int) -> None:
        """A sentence begins, at its voice's rate."""
        self._resampler = Resampler(sample_rate, self.manner.sample_rate)

    def cut(self, pcm: bytes) -> Iterator[bytes]:
        """The frames that are whole. Raises VoiceError where there is more of it than a reply may hold."""
        assert self._resampler is not None  # noqa: S101  # begin comes first
        self._held += self._resampler.feed(pcm)
        yield from self._whole()

    def end(self) -> Iterator[bytes]:
        """The sentence's last frames; the last one is filled up with silence."""
        assert self._resampler is not None  # noqa: S101  # begin comes first
        self._held += self._resampler.feed(b"", last=True)
        self._held += bytes(-len(self._held) % self.manner.frame_bytes)
        yield from self._whole()

    def _whole(self) -> Iterator[bytes]:
        size = self.manner.frame_bytes
        while len(self._held) >= size:
            frame = bytes(self._held[:size])
            del self._held[:size]
            self._samples += size // 2
            if self._samples > self.manner.longest_seconds * self.manner.sample_rate:
                minutes = self.manner.longest_seconds / 60
                raise VoiceError("rejected", f"The answer has more than {minutes:g} minutes of sound: let it stream.")
            head, self._head = self._head, b""
            yield head + frame
