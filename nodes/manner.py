"""How sound leaves: the endpoint's options, and what the request asks for in its `audio`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from nodes.turn import Turn
from speech.port import VoiceError

SampleRate = Annotated[int, Field(ge=8_000, le=48_000)]
FrameMs = Annotated[int, Field(ge=10, le=1_000)]
SoundFormat = Literal["pcm16", "wav"]
_LONGEST_VOICE = 128
_FORMATS: Mapping[str, SoundFormat] = {"pcm16": "pcm16", "pcm": "pcm16", "wav": "wav"}


@dataclass(frozen=True, slots=True)
class Manner:
    """One turn's sound."""

    voice: str
    """The engine's name of who speaks; empty: the usual one."""
    format: SoundFormat
    sample_rate: int
    frame_ms: int
    paced: bool
    """Whether it leaves as fast as it is heard."""

    @property
    def frame_bytes(self) -> int:
        """Of a frame of PCM16 mono."""
        return self.sample_rate * self.frame_ms // 1000 * 2


def manner_of(
    turn: Turn, *, sample_rate: int = 16_000, frame_ms: int = 40, real_time: bool = True, sound: SoundFormat = "pcm16"
) -> Manner:
    """What the request says counts before the endpoint. Raises VoiceError for a format that nobody speaks here.

    A reply that is not streamed is not paced. A host whose contract is raw PCM gets it whatever it calls it.
    """
    asked = turn.request.get("audio")
    given: Mapping[str, object] = asked if isinstance(asked, Mapping) else {}
    wanted = given.get("format") or sound
    form = _FORMATS.get(wanted.lower()) if isinstance(wanted, str) else None
    if turn.profile.raw_sound:
        form = "pcm16"
    if form is None:
        raise VoiceError("rejected", f"No sound in the format {str(wanted)[:32]!r}. Accepted: {', '.join(_FORMATS)}.")
    voice = given.get("voice")
    if isinstance(voice, Mapping):  # OpenAI's form of a voice of one's own
        voice = voice.get("id")
    if voice is not None and not (isinstance(voice, str) and len(voice) <= _LONGEST_VOICE and voice.isprintable()):
        raise VoiceError("rejected", f"`audio.voice` must be a name of at most {_LONGEST_VOICE} characters.")
    return Manner(
        voice=voice or "",
        format=form,
        sample_rate=sample_rate,
        frame_ms=frame_ms,
        paced=real_time and turn.streaming,
    )
