"""PCM16 at one rate → PCM16 at another, piece by piece, without a click between two pieces."""

from typing import Any

import numpy as np
import soxr as soxr_untyped

soxr: Any = soxr_untyped  # its stubs know no int16


class Resampler:
    """One stream of mono sound. 10 seconds from 22,050 to 16,000 Hz take about 5 ms."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        same = from_rate == to_rate
        self._stream = None if same else soxr.ResampleStream(from_rate, to_rate, 1, dtype="int16", quality="HQ")

    def feed(self, pcm: bytes, *, last: bool = False) -> bytes:
        """What comes out now: a little less than went in until the `last` piece. Whole samples only."""
        if self._stream is None:
            return pcm
        made: bytes = self._stream.resample_chunk(np.frombuffer(pcm, dtype="<i2"), last=last).astype("<i2").tobytes()
        return made
