"""How a turn's sound leaves."""

from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal

from pydantic import Field

SampleRate = Annotated[int, Field(ge=8_000, le=48_000)]
FrameMs = Annotated[int, Field(ge=10, le=1_000)]
SoundFormat = Literal["pcm16", "wav"]


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """One turn's sound."""

    voice: str
    """The engine's name of who speaks; empty: the usual one."""
    format: SoundFormat
    sample_rate: int
    frame_ms: int
    paced: bool
    """Whether it leaves as fast as it is heard."""
    longest_seconds: float = inf
    """How much there may be: a reply that is not streamed is made whole before it is sent."""

    @property
    def frame_bytes(self) -> int:
        """Of a frame of PCM16 mono: whole samples."""
        return self.sample_rate * self.frame_ms // 1000 * 2

    @property
    def frame_seconds(self) -> float:
        """How long a frame is heard."""
        return self.frame_bytes / 2 / self.sample_rate
