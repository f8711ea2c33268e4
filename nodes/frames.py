"""Sound in pieces of any length and rate → frames of one length, in the form that the caller asked for."""

from collections.abc import Iterator

from nodes.manner import Manner
from speech.resample import Resampler
from speech.wav import header


class Frames:
    """One turn's sound, from its first sample to its last."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._head = header(manner.sample_rate) if manner.format == "wav" else b""
        self._resampler: Resampler | None = None
        self._held = bytearray()
        self._count = 0

    @property
    def elapsed_ms(self) -> int:
        """How much has been cut off, which is when the next piece begins to be heard."""
        return self._count * self._manner.frame_ms

    def begin(self, sample_rate: int) -> None:
        """A sentence begins, at its voice's rate."""
        self._resampler = Resampler(sample_rate, self._manner.sample_rate)

    def cut(self, pcm: bytes) -> Iterator[bytes]:
        """The frames that are whole."""
        assert self._resampler is not None  # noqa: S101  # begin comes first
        self._held += self._resampler.feed(pcm)
        yield from self._whole()

    def end(self) -> Iterator[bytes]:
        """The sentence's last frames; the last one is filled up with silence."""
        assert self._resampler is not None  # noqa: S101  # begin comes first
        self._held += self._resampler.feed(b"", last=True)
        self._held += bytes(-len(self._held) % self._manner.frame_bytes)
        yield from self._whole()

    def _whole(self) -> Iterator[bytes]:
        size = self._manner.frame_bytes
        while len(self._held) >= size:
            frame = bytes(self._held[:size])
            del self._held[:size]
            self._count += 1
            head, self._head = self._head, b""
            yield head + frame
