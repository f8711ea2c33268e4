"""Plays the sound of a call in the terminal if the machine has a player, or saves it in a file."""

import asyncio
import shutil
import wave
from contextlib import suppress
from pathlib import Path

import typer

from dialgraph.speech.wav import HEADER_BYTES, read_header

PLAYERS = (
    ("aplay", "-q", "-"),
    ("pw-cat", "--playback", "-"),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "quiet", "-i", "-"),
    ("play", "-q", "-t", "wav", "-"),
)
"""Programs that play a WAV from their standard input. The first one that is installed is used."""


def writable(path: Path) -> None:
    """Raise BadParameter if no file can be written at this path, before anything is spoken."""
    if not path.parent.is_dir():
        raise typer.BadParameter(f"The folder {str(path.parent)!r} does not exist.")
    if path.is_dir():
        raise typer.BadParameter(f"{str(path)!r} is a folder. Give the name of a file.")


def player() -> tuple[str, ...] | None:
    """Return the command of this machine's player, or None."""
    return next((command for command in PLAYERS if shutil.which(command[0])), None)


class Playing:
    """Plays answers with an external player. Each answer is a stream that begins with a WAV header."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    async def hear(self, data: bytes) -> None:
        """Play the next frame. The first one starts the player."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        assert self._process.stdin is not None  # noqa: S101  # asked for above
        with suppress(ConnectionError):  # a machine without a loudspeaker
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def end(self) -> None:
        """Wait until the answer was played."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()
            self._process = None


class WavFile:
    """Writes the answers of a call into a WAV file, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds = 0.0
        self._file: wave.Wave_write | None = None
        self._rate = 0

    async def hear(self, data: bytes) -> None:
        """Write the next frame. The first one of an answer has a header."""
        if data.startswith(b"RIFF") and (found := read_header(data)) is not None:
            self._rate, data = found[0].sample_rate, data[HEADER_BYTES:]
        if self._file is None:
            self._file = wave.open(str(self.path), "wb")  # noqa: SIM115  # closed when the call ends
            self._file.setnchannels(1)
            self._file.setsampwidth(2)
            self._file.setframerate(self._rate)
        self._file.writeframes(data)
        self.seconds += len(data) / 2 / self._rate

    async def end(self) -> None:
        """Do nothing: the file continues with the next answer."""

    def close(self) -> None:
        """Close the file at the end of the call."""
        if self._file is not None:
            self._file.close()
