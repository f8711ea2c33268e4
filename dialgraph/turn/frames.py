"""Cuts sound of any length and sample rate into frames of one length, in the format that the client asked for."""

from collections.abc import Iterator

from dialgraph.environment import Environment
from dialgraph.speech.port import VoiceError
from dialgraph.speech.resample import Resampler
from dialgraph.speech.wav import header
from dialgraph.turn.pacing import Pace
from dialgraph.turn.sound_format import FrameFormat

OURS = "audio_d1a106"
"""The prefix of our sound ids. Providers do not know these ids, so they must not be sent to a provider."""


class Frames:
    """All sound of one turn, from every source. It has one id, one header and one clock."""

    def __init__(self, manner: FrameFormat, environment: Environment) -> None:
        self.id = environment.id(OURS, 18)
        self.manner = manner
        self.pace = Pace(manner.frame_seconds, environment.now) if manner.paced else None
        """The pace of all sound of the turn, from every source. None: the sound is not paced."""
        self.ends = ""
        """The last character of the words that were spoken so far."""
        self._head = header(manner.sample_rate) if manner.format == "wav" else b""
        self._resampler: Resampler | None = None
        self._held = bytearray()
        self._samples = 0

    @property
    def elapsed_ms(self) -> int:
        """Return how many milliseconds of sound are cut into frames. The next piece begins at this time."""
        return self._samples * 1000 // self.manner.sample_rate

    def begin(self, sample_rate: int) -> None:
        """Begin a sentence with the sample rate of its voice."""
        self._resampler = Resampler(sample_rate, self.manner.sample_rate)

    def cut(self, pcm: bytes) -> Iterator[bytes]:
        """Add sound and yield the frames that are complete. Raise VoiceError if the reply gets too long."""
        assert self._resampler is not None  # noqa: S101  # begin comes first
        self._held += self._resampler.feed(pcm)
        yield from self._whole()

    def end(self) -> Iterator[bytes]:
        """End the sentence and yield its last frames. The last one is filled with silence."""
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
                raise VoiceError("rejected", f"The answer has more than {minutes:g} minutes of sound. Use streaming.")
            head, self._head = self._head, b""
            yield head + frame
