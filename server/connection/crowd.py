"""How many connections the server holds, so that idle strangers cannot lock anybody out.

A process may open only so many files. Some are kept back for models, databases and documents. When the rest is used up,
the longest idle connection is closed for a new one: one that has sent no valid key, or if there is none, one that has.
"""

import logging
import time
from collections import OrderedDict
from typing import Final, Protocol

log = logging.getLogger(__name__)

KEPT_BACK: Final = 200
"""Files for the database, documents, pools and what is opened for a moment."""
FILES_A_CALL: Final = 2
"""The client's connection, and the one to its model."""
FEWEST: Final = 16
_LOG_SECONDS: Final = 60.0


class Closable(Protocol):
    """A connection."""

    def close_idle(self) -> None:
        """Close it: nothing is being answered on it."""


def raise_file_limit() -> int:
    """Let this process open as many files as the system allows it; returns how many."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1_000_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):  # macOS: not beyond a limit of the kernel's
            log.warning("the limit of open files could not be raised", extra={"files": soft})
    return 1_000_000 if soft == resource.RLIM_INFINITY else soft


def most_connections(files: int) -> int:
    """How many clients fit into so many open files."""
    return max(FEWEST, (files - KEPT_BACK) // FILES_A_CALL)


class ConnectionLimit:
    """The connections of one server."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: set[Closable] = set()
        self._strangers: OrderedDict[Closable, None] = OrderedDict()
        """Idle connections that have sent no valid key, longest idle first."""
        self._known: OrderedDict[Closable, None] = OrderedDict()
        """Idle connections that have sent a valid key, longest idle first."""
        self._logged = float("-inf")

    def enter(self, connection: Closable) -> bool:
        """Make room for one more. Returns False if all others are busy, so that this one must go."""
        if len(self._open) >= self.most:
            self._log()
            idle = self._strangers or self._known
            if not idle:
                return False
            longest, _ = idle.popitem(last=False)
            self._open.discard(longest)
            longest.close_idle()
        self._open.add(connection)
        self._strangers[connection] = None
        return True

    def busy(self, connection: Closable) -> None:
        """A request is being answered on it."""
        self._strangers.pop(connection, None)
        self._known.pop(connection, None)

    def idle(self, connection: Closable, *, known: bool) -> None:
        """Nothing is; `known`: it has brought a key that was right."""
        if connection in self._open:
            (self._known if known else self._strangers)[connection] = None

    def leave(self, connection: Closable) -> None:
        """It is closed."""
        self._open.discard(connection)
        self.busy(connection)

    def _log(self) -> None:
        """Once a minute at most."""
        now = time.monotonic()
        if now - self._logged >= _LOG_SECONDS:
            self._logged = now
            log.warning("no room for more connections: idle ones are closed", extra={"connections": len(self._open)})
