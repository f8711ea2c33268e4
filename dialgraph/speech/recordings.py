"""Recordings in a folder: opened without leaving the folder, and read in pieces as PCM16 mono at the caller's rate."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dialgraph.speech.resample import Resampler
from dialgraph.speech.wav import PACKED, Format, WavError, mono16, read_header

_LONGEST_HEADER = 64 * 1024
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_BY_FOLDER = os.open in os.supports_dir_fd


class _LinkError(OSError):
    """The path contains a link."""


class RecordingError(Exception):
    """A recording cannot be played. The message names the file, never its folder."""

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"The recording {name!r} {fault}.")
        self.name = name


def open_recording(folder: Path, name: str) -> BinaryIO:
    """Return an open file of the folder. Blocks: call it in a thread.

    Raise FileNotFoundError if there is no such file. Raise RecordingError for a name that leads outside the folder,
    through `..` or a link, and for a path that is not a file.
    """
    parts = name.replace("\\", "/").split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts) or Path(name).drive:
        raise RecordingError(name, "is outside the folder of recordings")
    try:
        opened = _open_below(folder, parts) if _BY_FOLDER else _open_plainly(folder, parts)
    except FileNotFoundError:
        raise FileNotFoundError(2, "There is no such recording", parts[-1]) from None
    except OSError as error:
        linked = error.errno in (errno.ELOOP, errno.ENOTDIR) or isinstance(error, _LinkError)
        raise RecordingError(
            name, "cannot be opened: links are not followed" if linked else "cannot be opened"
        ) from error
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise RecordingError(name, "is not a file")
    return os.fdopen(opened, "rb")


def _open_below(folder: Path, parts: list[str]) -> int:
    """Open folder by folder, each relative to the one before, so that nobody can insert a link in between."""
    here = os.open(folder, os.O_RDONLY | _DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | _DIRECTORY | _NO_LINK, dir_fd=here)
            os.close(here)
            here = below
        return os.open(parts[-1], os.O_RDONLY | _NO_LINK, dir_fd=here)
    finally:
        os.close(here)


def _open_plainly(folder: Path, parts: list[str]) -> int:
    """Open the path on systems that cannot open relative to a folder (Windows)."""
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise _LinkError(part)
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


def samples(file: BinaryIO, name: str, raw_rate: int, sample_rate: int) -> Iterator[bytes]:
    """Yield the recording, about a second at a time. Blocks: call `next` in a thread. Raise RecordingError.

    A file that does not begin as a WAV is raw PCM16 mono at `raw_rate`.
    """
    begun = file.read(_LONGEST_HEADER)
    if begun.startswith(PACKED):
        raise RecordingError(name, "is compressed sound. Accepted: WAV and raw PCM16")
    form, left = Format(raw_rate, 1, 16), None
    if begun.startswith(b"RIFF") or name.lower().endswith(".wav"):
        try:
            found = read_header(begun)
        except WavError as error:
            raise RecordingError(name, f"is a WAV that {error}") from None
        if found is None:
            raise RecordingError(name, "is not a WAV file")
        form, offset, left = found
        begun = begun[offset:]
    resampler = Resampler(form.sample_rate, sample_rate)
    for block in _blocks(file, begun, form, left):
        if made := resampler.feed(mono16(block, form)):
            yield made
    if rest := resampler.feed(b"", last=True):
        yield rest


def _blocks(file: BinaryIO, begun: bytes, form: Format, left: int | None) -> Iterator[bytes]:
    """Yield whole frames, at most a second of them at a time. A file that is too short simply ends."""
    second = form.sample_rate * form.frame_bytes
    held = begun
    while True:
        while len(held) < second and (more := file.read(second - len(held))):
            held += more
        if left is not None:
            held = held[:left]
        block = held[: min(second, len(held) - len(held) % form.frame_bytes)]
        if not block:
            return
        held = held[len(block) :]
        left = None if left is None else left - len(block)
        yield block
