"""The parent's view of an espeak-ng process: it speaks one sentence at a time and can be killed at any moment."""

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dialgraph.speech.espeak_child import FRAME, LENGTH, WORD

SAMPLE_RATE = 22_050
_LONGEST_FRAME = 2**20
_CHILD = Path(__file__).with_name("espeak_child.py")
_LIBRARY = {"win32": "espeak-ng.dll", "darwin": "libespeak-ng.dylib"}.get(sys.platform, "libespeak-ng.so")


class DeadProcessError(Exception):
    """The process has ended, or does not follow the protocol."""


class Spoken(NamedTuple):
    """One spoken sentence."""

    pcm: bytes
    words: list[tuple[int, int]]
    """The position of each word in the text, in characters, and its start, in milliseconds."""
    refused: bool = False
    """Whether espeak-ng has no such voice."""


class SpeakingProcess:
    """One process, and the messages to and from it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, package: Path) -> "SpeakingProcess":
        """Return a new process. `package` is the folder with the library and its data. Raise DeadProcessError."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(_CHILD), str(package / _LIBRARY), str(package / "espeak-ng-data"),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True, env={}, limit=2 * _LONGEST_FRAME,
            )  # fmt: skip
        except OSError as error:
            raise DeadProcessError from error
        return cls(process)

    async def ready(self) -> None:
        """Return when the process can speak. Raise DeadProcessError."""
        kind, data = await self._frame()
        if kind != b"r" or LENGTH.unpack(data)[0] != SAMPLE_RATE:
            raise DeadProcessError

    async def speak(self, asked: dict[str, object]) -> Spoken:
        """Return one spoken sentence. Raise DeadProcessError."""
        assert self._process.stdin is not None  # noqa: S101  # `start` opened it
        said = json.dumps(asked).encode()
        with suppress(ConnectionError):  # reading its output shows that it is dead
            self._process.stdin.write(LENGTH.pack(len(said)) + said)
            await self._process.stdin.drain()
        pcm = bytearray()
        words: list[tuple[int, int]] = []
        while True:
            kind, data = await self._frame()
            if kind == b"s":
                pcm += data
            elif kind == b"w":
                words.append(WORD.unpack(data))
            elif kind == b"e":
                return Spoken(bytes(pcm), words)
            elif data == b"voice":
                return Spoken(b"", [], refused=True)
            else:
                raise DeadProcessError

    def kill(self) -> None:
        """Kill the process immediately."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def gone(self) -> None:
        """Return when the process has ended and its pipes are closed."""
        assert self._process.stdin is not None  # noqa: S101  # `start` opened it
        self._process.stdin.close()
        await self._process.communicate()
        await asyncio.sleep(0)

    async def _frame(self) -> tuple[bytes, bytes]:
        assert self._process.stdout is not None  # noqa: S101  # `start` opened it
        try:
            kind, length = FRAME.unpack(await self._process.stdout.readexactly(FRAME.size))
            if length > _LONGEST_FRAME:
                raise DeadProcessError
            return kind, await self._process.stdout.readexactly(length)
        except asyncio.IncompleteReadError:
            raise DeadProcessError from None
