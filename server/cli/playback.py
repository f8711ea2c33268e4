"""What a call in the terminal sounds like: played while it comes where the machine has a player, or kept in a file."""

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
"""Programs that play a WAV from their standard input, the first that is there."""


def writable(path: Path) -> None:
    """Refuse a place where no file can be written, before anything is spoken."""
    if not path.parent.is_dir():
        raise typer.BadParameter(f"There is no folder {str(path.parent)!r}.")
    if path.is_dir():
        raise typer.BadParameter(f"{str(path)!r} is a folder. Accepted: a file's name.")


def player() -> tuple[str, ...] | None:
    """The one of this machine."""
    return next((command for command in PLAYERS if shutil.which(command[0])), None)


class Playing:
    """One answer into a player's ears: a stream that begins with a WAV's header."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    async def hear(self, data: bytes) -> None:
        """The next frame."""
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
        """Wait until it has been played."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()
            self._process = None


class WavFile:
    """The answers of a call, one behind the other, into a WAV file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds = 0.0
        self._file: wave.Wave_write | None = None
        self._rate = 0

    async def hear(self, data: bytes) -> None:
        """The next frame; the first one of an answer has a header."""
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
        """An answer has ended."""

    def close(self) -> None:
        """The call has."""
        if self._file is not None:
            self._file.close()
