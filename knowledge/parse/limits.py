"""The limits of the child process, and how it gives up all other rights before it reads a file.

Measured: each of our readers needs less than 60 MB for a hundred pages. Every bomb we know ends by itself or at one of
these limits. Namespaces are best effort, because a container may forbid them. The ban on new files and sockets works
everywhere.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys

MEMORY_BYTES = 512 * 2**20
CPU_SECONDS = 20
WALL_SECONDS = 60
SOURCE_BYTES = 50 * 2**20
"""The most bytes of a file."""
TEXT_CHARACTERS = 20_000_000
"""The most characters that are read from one file. A file with more is treated as a bomb."""

_BEHIND_CALLS = 10
"""Added to the niceness of the process. With few cores, a search has priority over a file."""
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def give_up_everything() -> None:
    """Give up files, sockets, processes and privileges, and limit memory and time.

    Call it once, before any thread starts.
    """
    if sys.platform == "linux":
        kernel = ctypes.CDLL(None)
        kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        kernel.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        kernel.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS has no memory limit
            resource.setrlimit(limit, (most, most))
    os.nice(_BEHIND_CALLS)
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: object) -> None:
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn")):
        raise PermissionError(event)
