"""Limits the number of connections, so that idle strangers cannot keep other clients out.

A process can open a limited number of files. Some are reserved for models, databases and documents. When the rest is in
use, a new connection replaces an idle one. The connection that has been idle for longest is closed first. Connections
without a valid key are closed before those with one.
"""

import logging
import time
from collections import OrderedDict
from typing import Final, Protocol

log = logging.getLogger(__name__)

KEPT_BACK: Final = 200
"""Files reserved for the database, documents, pools and short uses."""
FILES_A_CALL: Final = 2
"""One for the client's connection, one for the connection to its model."""
FEWEST: Final = 16
_LOG_SECONDS: Final = 60.0


class Closable(Protocol):
    """A connection that can be closed while it is idle."""

    def close_idle(self) -> None:
        """Close the connection, which is answering no request."""


def raise_file_limit() -> int:
    """Let this process open as many files as the system allows. Return that number."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1_000_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):  # macOS: the kernel has a lower limit
            log.warning("the limit of open files could not be raised", extra={"files": soft})
    return 1_000_000 if soft == resource.RLIM_INFINITY else soft


def most_connections(files: int) -> int:
    """Return how many clients can be connected with this number of open files."""
    return max(FEWEST, (files - KEPT_BACK) // FILES_A_CALL)


class ConnectionLimit:
    """The open connections of one server, and their limit."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: set[Closable] = set()
        self._strangers: OrderedDict[Closable, None] = OrderedDict()
        """Idle connections that have sent no valid key, longest idle first."""
        self._known: OrderedDict[Closable, None] = OrderedDict()
        """Idle connections that have sent a valid key, longest idle first."""
        self._logged = float("-inf")

    def enter(self, connection: Closable) -> bool:
        """Add a connection, and close an idle one if there is no room. Return False if all others are busy: then this
        connection must be closed.
        """
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
        """Mark the connection as busy: it answers a request."""
        self._strangers.pop(connection, None)
        self._known.pop(connection, None)

    def idle(self, connection: Closable, *, known: bool) -> None:
        """Mark the connection as idle. `known`: it has sent a valid key."""
        if connection in self._open:
            (self._known if known else self._strangers)[connection] = None

    def leave(self, connection: Closable) -> None:
        """Remove a connection that was closed."""
        self._open.discard(connection)
        self.busy(connection)

    def _log(self) -> None:
        """Log that there is no room, at most once a minute."""
        now = time.monotonic()
        if now - self._logged >= _LOG_SECONDS:
            self._logged = now
            log.warning(
                "there was no room for more connections; idle ones were closed", extra={"connections": len(self._open)}
            )
