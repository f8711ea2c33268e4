"""Reads a file in a child process. A harmful file can harm only the child, and the caller gets an error message."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from string import ascii_lowercase
from time import monotonic

from dialgraph.environment import in_thread
from knowledge.parse.errors import ParseError
from knowledge.parse.frames import LENGTHS, LONGEST, Frame, read_frame
from knowledge.parse.limits import CPU_SECONDS, MEMORY_BYTES, SOURCE_BYTES, WALL_SECONDS
from knowledge.parse.sniff import kind_of
from knowledge.parse.texts import PLAIN, small_text

_CHILD = Path(__file__).with_name("child.py")
_SMALL = 32 * 1024
"""Plain text of at most this many bytes is read in a thread of this process: it takes some milliseconds."""
_READ_AHEAD = 2**22
"""How many bytes the child may be ahead of its reader."""
_TOO_MUCH = f"The file needs more than {CPU_SECONDS} s or {MEMORY_BYTES // 2**20} MB to be read."


async def frames(data: bytes, name: str, *, from_units: str) -> AsyncGenerator[Frame, None]:
    """Yield the kind of the file, then its pieces in batches. Raises ParseError.

    `from_units`: see `Embedder.from_units`; the child then computes the vectors too.
    Closing the generator kills the child.
    """
    if len(data) > SOURCE_BYTES:
        raise ParseError(f"The file has {len(data)} bytes. Accepted: at most {SOURCE_BYTES}.")
    if len(data) <= _SMALL and (kind := kind_of(data, name)) in PLAIN:
        # Starting a child takes longer than reading such a file.
        batches = await in_thread(small_text, data, kind, from_units)
        yield Frame([], kind, sum(map(len, batches)))
        for batch in batches:
            yield Frame(batch)
        return
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(_CHILD), f"x.{_suffix(name)}", from_units,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={"OPENBLAS_NUM_THREADS": "1"},  # threads reserve memory, which counts towards the limit
        start_new_session=True, limit=_READ_AHEAD,
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None  # noqa: S101  # requested above
    sending = asyncio.create_task(_send(child.stdin, data))
    ahead = asyncio.create_task(_read(child.stdout))
    left = float(WALL_SECONDS)  # the time that the caller spends on a frame does not count
    try:
        while True:
            begun = monotonic()
            async with asyncio.timeout(left):
                frame = await ahead
            left -= monotonic() - begun
            if frame.error:
                raise ParseError(frame.error)
            if frame.end:
                return
            ahead = asyncio.create_task(_read(child.stdout))  # the child continues while the caller uses this frame
            yield frame
    except (asyncio.IncompleteReadError, TimeoutError):
        raise ParseError(_TOO_MUCH) from None
    except (ValueError, KeyError, TypeError):
        raise ParseError("The file is damaged.") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        sending.cancel()
        ahead.cancel()
        await asyncio.gather(sending, ahead, child.wait(), return_exceptions=True)


def _suffix(name: str) -> str:
    """Return the letters of the suffix. The child needs no more of a name, which may hold anything."""
    return "".join(character for character in name.rpartition(".")[2].lower() if character in ascii_lowercase)[:8]


async def _send(stdin: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # the child has died; `_read` will notice
        stdin.write(data)
        await stdin.drain()
        stdin.close()


async def _read(stdout: asyncio.StreamReader) -> Frame:
    lengths = LENGTHS.unpack(await stdout.readexactly(LENGTHS.size))
    if sum(lengths) > LONGEST:
        raise ValueError("a frame is too long")
    first, second, third = [await stdout.readexactly(length) for length in lengths]
    return await in_thread(read_frame, first, second, third)
