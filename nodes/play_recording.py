"""Play a prepared recording with its words."""

import asyncio
from pathlib import Path
from typing import Annotated, Literal
from uuid import uuid4

from pydantic import Field

from nodes.contract import State, Turn, Update, node
from nodes.events import Audio, Transcript
from nodes.pacing import Pace
from speech.recording import read_recording
from speech.tone import silence, tone

SIMULATED = "[simulated] The recording {name!r} was not found, so this is a {kind} in its place."
_SIMULATED_SECONDS = 1.0


@node(speaks=True)
async def play_recording(
    state: State,
    turn: Turn,
    *,
    text: str = "file.txt",
    sound: str = "file.pcm",
    sample_rate: Annotated[int, Field(ge=8000, le=48_000)] = 16_000,
    frame_ms: Annotated[int, Field(ge=10, le=1000)] = 40,
    real_time: bool = True,
    missing: Literal["silence", "tone"] = "tone",
) -> Update:
    """Speak a text file and a PCM or WAV file of the folder of recordings: the transcript, then 40 ms frames.

    Without the files a reply is simulated whose transcript says so, and whose sound is a tone or silence, never noise.
    """
    paths = turn.services.recording(text), turn.services.recording(sound)
    words, pcm = await asyncio.to_thread(_read, *paths, sample_rate, missing)
    if not turn.wants("audio"):
        await turn.say(words)
        return None
    identity = f"audio_{uuid4().hex[:24]}"
    await turn.emit(Transcript(identity, words))
    frame = sample_rate * frame_ms // 1000 * 2
    pace = Pace(frame_ms / 1000) if real_time and turn.streaming else None
    for start in range(0, len(pcm), frame):
        if pace is not None:
            await pace.wait()
        await turn.emit(Audio(identity, pcm[start : start + frame]))
    return None


def _read(text: Path, sound: Path, sample_rate: int, missing: Literal["silence", "tone"]) -> tuple[str, bytes]:
    try:
        return text.read_text(encoding="utf-8").strip(), read_recording(sound, sample_rate)
    except FileNotFoundError as error:
        name = Path(error.filename).name
        make = tone if missing == "tone" else silence
        return SIMULATED.format(name=name, kind=missing), make(_SIMULATED_SECONDS, sample_rate)
