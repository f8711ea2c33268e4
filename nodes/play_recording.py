"""Play a prepared recording with its words."""

import logging
from collections.abc import Iterator
from itertools import chain
from typing import Literal

from dialgraph import Audio, State, Transcript, Turn, Update, node
from dialgraph.environment import in_thread
from dialgraph.speech.recordings import RecordingError, samples
from dialgraph.speech.tone import silence, tone
from dialgraph.turn.sound_format import FrameMs, SampleRate, SoundFormat
from dialgraph.turn.voice_outlet import sound_format_of

log = logging.getLogger(__name__)

SIMULATED = "[simulated] The recording {name!r} {fault}, so this is {kind} in its place."
_SIMULATED_SECONDS = 1.0
Missing = Literal["silence", "tone", "error"]
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
    missing: Missing = "tone",
) -> Update:
    """Speak a text file and a recording of the folder `recordings`: the transcript, then 40 ms frames.

    A WAV is understood whatever its rate, width and channels are; anything else is PCM16 mono at `raw_rate`. Without
    the files, or with damaged ones, a reply is simulated whose transcript says so and whose sound is a tone or silence,
    never noise; or it is an error.
    """
    if not turn.asks_for("audio", absent=True):
        words, _ = await _found(turn, text, "", missing, raw_rate, sample_rate)
        await turn.say(words)
        return None
    line = turn.line
    # Of what was said before it: one turn's sound has one id, one rate and one header.
    frames = line.sound(
        lambda: sound_format_of(turn, sample_rate=sample_rate, frame_ms=frame_ms, real_time=real_time, sound=sound)
    )
    manner = frames.manner
    words, blocks = await _found(turn, text, recording, missing, raw_rate, manner.sample_rate)
    await line.drain_words()
    apart = " " if frames.ends.isascii() and frames.ends.strip() else ""
    await turn.emit(Transcript(frames.id, apart + words))
    frames.ends = words[-1:]
    pace = None if line.voiced else frames.pace  # a voice's outlet paces what passes it
    frames.begin(manner.sample_rate)
    # A second at a time, so that a long recording is neither held in memory nor read on the event loop.
    while block := await in_thread(next, blocks, None):
        for frame in frames.cut(block):
            if pace is not None:
                await pace.wait()
            await turn.emit(Audio(frames.id, frame))
    for frame in frames.end():
        await turn.emit(Audio(frames.id, frame))
    return None


async def _found(
    turn: Turn, text: str, recording: str, missing: Missing, raw_rate: int, sample_rate: int
) -> tuple[str, Iterator[bytes]]:
    """The words and the sound, or what stands in their place. Without a recording's name only the words count."""
    try:
        words = await in_thread(_words, turn, text)
        if not recording:
            return words, iter(())
        return words, await in_thread(_opened, turn, recording, raw_rate, sample_rate)
    except (FileNotFoundError, RecordingError) as error:
        fault = _told(error)
        if missing == "error":
            raise fault from error
        log.warning("a recording cannot be played", extra={"reason": str(fault)})
        return _simulated(error, missing, sample_rate)


def _words(turn: Turn, name: str) -> str:
    with turn.services.recording(name) as file:
        return file.read(_LONGEST_TEXT * 4).decode("utf-8-sig", "replace")[:_LONGEST_TEXT].strip()


def _opened(turn: Turn, name: str, raw_rate: int, sample_rate: int) -> Iterator[bytes]:
    """The recording's blocks. Its first one is read now: a damaged file is known before a word is said."""
    file = turn.services.recording(name)
    turn.stack.callback(file.close)
    blocks = samples(file, name, raw_rate, sample_rate)
    if not (first := next(blocks, b"")):
        raise RecordingError(name, "holds no sound")
    return chain([first], blocks)


def _simulated(
    error: FileNotFoundError | RecordingError, missing: Missing, sample_rate: int
) -> tuple[str, Iterator[bytes]]:
    make, kind = (silence, "silence") if missing == "silence" else (tone, "a tone")
    fault = "was not found" if isinstance(error, FileNotFoundError) else "cannot be played"
    words = SIMULATED.format(name=_told(error).name, fault=fault, kind=kind)
    return words, iter([make(_SIMULATED_SECONDS, sample_rate)])


def _told(error: FileNotFoundError | RecordingError) -> RecordingError:
    """The same for the caller: the file's name, and no folder."""
    return error if isinstance(error, RecordingError) else RecordingError(error.filename, "was not found")
