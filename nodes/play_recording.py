"""The node `play_recording`: plays a prepared recording together with its words."""

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
"""The most characters of a text file."""


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
    """Play a recording from the folder `recordings`: first send its text as the transcript, then its sound in frames.

    A request that has `modalities` without `audio` gets only the text.

    - `text`, `recording`: the names of the two files.
    - `raw_rate`: the samples per second of a recording that is not a WAV file. It must be PCM16 mono. A WAV file may
      have any rate, width and number of channels.
    - `sample_rate`: the samples per second that are sent.
    - `frame_ms`: the length of a frame in milliseconds.
    - `sound`: the format that is sent, `pcm16` or `wav`. The request's `audio.format` overrides it.
    - `real_time`: send frames as fast as they are played. If false, they are sent as soon as they are ready.
    - `missing`: what to do if a file is missing or damaged. `tone` or `silence`: play this for one second, with a
      transcript that says so. `error`: fail.
    """
    if not turn.asks_for("audio", absent=True):
        words, _ = await _found(turn, text, "", missing, raw_rate, sample_rate)
        await turn.say(words)
        return None
    line = turn.line
    # Sound that was sent before sets the format: the sound of a turn has one id, one rate and one header.
    frames = line.sound(
        lambda: sound_format_of(turn, sample_rate=sample_rate, frame_ms=frame_ms, real_time=real_time, sound=sound)
    )
    manner = frames.manner
    words, blocks = await _found(turn, text, recording, missing, raw_rate, manner.sample_rate)
    await line.drain_words()
    apart = " " if frames.ends.isascii() and frames.ends.strip() else ""
    await turn.emit(Transcript(frames.id, apart + words))
    frames.ends = words[-1:]
    pace = None if line.voiced else frames.pace  # the outlet of a voice sets the pace itself
    frames.begin(manner.sample_rate)
    # One second at a time, and in a thread: a long recording must not fill memory or block the event loop.
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
    """Return the words and the sound, or a simulated reply. If `recording` is empty, return only the words."""
    try:
        words = await in_thread(_words, turn, text)
        if not recording:
            return words, iter(())
        return words, await in_thread(_opened, turn, recording, raw_rate, sample_rate)
    except (FileNotFoundError, RecordingError) as error:
        fault = _told(error)
        if missing == "error":
            raise fault from error
        log.warning("a recording could not be played", extra={"reason": str(fault)})
        return _simulated(error, missing, sample_rate)


def _words(turn: Turn, name: str) -> str:
    with turn.services.recording(name) as file:
        return file.read(_LONGEST_TEXT * 4).decode("utf-8-sig", "replace")[:_LONGEST_TEXT].strip()


def _opened(turn: Turn, name: str, raw_rate: int, sample_rate: int) -> Iterator[bytes]:
    """Return the blocks of the recording. Read the first one now, to find a damaged file before a word is said."""
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
    """Return the error as the client may see it: with the name of the file, but not its folder."""
    return error if isinstance(error, RecordingError) else RecordingError(error.filename, "was not found")
