"""Converts PCM16 from one sample rate to another, piece by piece, without a click between pieces."""

from typing import Any

import numpy as np
import soxr as soxr_untyped

soxr: Any = soxr_untyped  # its type stubs lack int16


class Resampler:
    """Converts one stream of mono sound. 10 seconds from 22,050 to 16,000 Hz take about 5 ms."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        same = from_rate == to_rate
        self._stream = None if same else soxr.ResampleStream(from_rate, to_rate, 1, dtype="int16", quality="HQ")

    def feed(self, pcm: bytes, *, last: bool = False) -> bytes:
        """Return the converted samples, slightly fewer than expected until the `last` piece. `pcm`: whole samples."""
        if self._stream is None:
            return pcm
        made: bytes = self._stream.resample_chunk(np.frombuffer(pcm, dtype="<i2"), last=last).astype("<i2").tobytes()
        return made
