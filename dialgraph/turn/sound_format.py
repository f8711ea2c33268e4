"""The format in which the sound of a turn is sent."""

from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal

from pydantic import Field

SampleRate = Annotated[int, Field(ge=8_000, le=48_000)]
FrameMs = Annotated[int, Field(ge=10, le=1_000)]
SoundFormat = Literal["pcm16", "wav"]


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """The format of one turn's sound."""

    voice: str
    """The engine's name of the voice. Empty: its default voice."""
    format: SoundFormat
    sample_rate: int
    frame_ms: int
    paced: bool
    """Whether frames are sent only as fast as they are played."""
    longest_seconds: float = inf
    """The most sound in one turn. It limits replies that are not streamed, because they are complete before sending."""

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of a frame of PCM16 mono, in whole samples."""
        return self.sample_rate * self.frame_ms // 1000 * 2

    @property
    def frame_seconds(self) -> float:
        """Return how long a frame plays, in seconds."""
        return self.frame_bytes / 2 / self.sample_rate
