"""A recording on disk → PCM16 mono: raw `.pcm`, or a `.wav` whose header says so."""

import wave
from pathlib import Path


class RecordingError(Exception):
    """A recording cannot be played. Names the file, never its folder."""


def read_recording(path: Path, sample_rate: int) -> bytes:
    """The samples. Blocks: call it in a thread. FileNotFoundError when there is no such file."""
    if path.suffix.lower() != ".wav":
        pcm = path.read_bytes()
        return pcm[: len(pcm) - len(pcm) % 2]
    try:
        with wave.open(str(path)) as recording:
            found = (recording.getnchannels(), recording.getsampwidth() * 8, recording.getframerate())
            if found != (1, 16, sample_rate):
                raise RecordingError(
                    f"{path.name!r} has {found[0]} channels of {found[1]} bits at {found[2]} Hz."
                    f" Accepted: 1 channel of 16 bits at {sample_rate} Hz."
                )
            return bytes(recording.readframes(recording.getnframes()))
    except (wave.Error, EOFError) as error:
        raise RecordingError(f"{path.name!r} is no WAV file.") from error
