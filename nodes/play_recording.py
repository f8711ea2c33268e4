"""Play a prepared recording with its words."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Literal
from uuid import uuid4

from nodes.contract import State, Turn, Update, node
from nodes.events import Audio, Transcript
from nodes.frames import Frames
from nodes.manner import FrameMs, SampleRate, SoundFormat, manner_of
from nodes.pacing import Pace
from speech.recordings import RecordingError, samples
from speech.tone import silence, tone

log = logging.getLogger(__name__)

SIMULATED = "[simulated] The recording {name!r} {fault}, so this is {kind} in its place."
_SIMULATED_SECONDS = 1.0
_LONGEST_TEXT = 100_000
"""Characters of the words."""


@node(speaks=True, sounds=True)
async def play_recording(
    state: State,
    turn: Turn,
    *,
    text: str = "file.txt",
    recording: str = "file.pcm",
    raw_rate: SampleRate = 16_000,
    sample_rate: SampleRate = 16_000,
    frame_ms: FrameMs = 40,
    sound: SoundFormat = "pcm16",
    real_time: bool = True,
    missing: Literal["silence", "tone", "error"] = "tone",
) -> Update:
    """Speak a text file and a recording of the folder `recordings`: the transcript, then 40 ms frames.

    A WAV is understood whatever its rate, width and channels are; anything else is PCM16 mono at `raw_rate`. Without
    the files, or with damaged ones, a reply is simulated whose transcript says so and whose sound is a tone or silence,
    never noise; or it is an error.
    """
    voiced = turn.asks_for("audio", absent=True)
    try:
        words = await asyncio.to_thread(_words, turn, text)
        blocks = await asyncio.to_thread(_opened, turn, recording, raw_rate, sample_rate) if voiced else iter(())
    except (FileNotFoundError, RecordingError) as error:
        fault = _told(error)
        if missing == "error":
            raise fault from error
        log.warning("a recording cannot be played", extra={"reason": str(fault)})
        words, blocks = _simulated(error, missing, sample_rate)
    if not voiced:
        await turn.say(words)
        return None
    identity = f"audio_{uuid4().hex[:24]}"
    await turn.emit(Transcript(identity, words))
    manner = manner_of(turn, sample_rate=sample_rate, frame_ms=frame_ms, real_time=real_time, sound=sound)
    frames, pace = Frames(manner), Pace(frame_ms / 1000) if manner.paced else None
    frames.begin(sample_rate)
    # A second at a time, so that a long recording is neither held in memory nor read on the event loop.
    while block := await asyncio.to_thread(next, blocks, None):
        for frame in frames.cut(block):
            if pace is not None:
                await pace.wait()
            await turn.emit(Audio(identity, frame))
    for frame in frames.end():
        await turn.emit(Audio(identity, frame))
    return None


def _words(turn: Turn, name: str) -> str:
    with turn.services.recording(name) as file:
        return file.read(_LONGEST_TEXT * 4).decode("utf-8-sig", "replace")[:_LONGEST_TEXT].strip()


def _opened(turn: Turn, name: str, raw_rate: int, sample_rate: int) -> Iterator[bytes]:
    """The recording's blocks. Its first one is read now: a damaged file is known before a word is said."""
    file = turn.services.recording(name)
    turn.stack.callback(file.close)
    blocks = samples(file, name, raw_rate, sample_rate)
    first = next(blocks, b"")

    def all_of_it() -> Iterator[bytes]:
        if first:
            yield first
            yield from blocks

    return all_of_it()


def _simulated(
    error: FileNotFoundError | RecordingError, missing: Literal["silence", "tone", "error"], sample_rate: int
) -> tuple[str, Iterator[bytes]]:
    make, kind = (silence, "silence") if missing == "silence" else (tone, "a tone")
    fault = "was not found" if isinstance(error, FileNotFoundError) else "cannot be played"
    words = SIMULATED.format(name=_told(error).name, fault=fault, kind=kind)
    return words, iter([make(_SIMULATED_SECONDS, sample_rate)])


def _told(error: FileNotFoundError | RecordingError) -> RecordingError:
    """The same for the caller: the file's name, and no folder."""
    return error if isinstance(error, RecordingError) else RecordingError(error.filename, "was not found")
