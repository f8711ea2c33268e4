"""Whether a database answers. While it does not, requests are refused at once; the log says when that changes."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dialgraph.storage.errors import DatabaseAwayError, DatabaseFullError

log = logging.getLogger(__name__)

_SILENT_SECONDS = 0.9
"""A failure that took so long was a silence; one that came sooner is worth another try at once."""
_AWAY_SECONDS = 0.5
"""How long a database that was silent is not asked again: calls fail at once meanwhile."""


class Outage:
    """Whether one database answers."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._silent_at = float("-inf")

    def refuse_at_once(self) -> None:
        """Raise DatabaseAwayError if somebody has just waited for an answer in vain."""
        if self._since is not None and time.monotonic() - self._silent_at < _AWAY_SECONDS:
            raise DatabaseAwayError("The database does not answer.")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raise DatabaseAwayError and DatabaseFullError for what the driver fails with; note how the database is."""
        began = time.monotonic()
        try:
            with _in_our_words():
                yield
        except DatabaseAwayError as error:
            now = time.monotonic()
            if now - began >= _SILENT_SECONDS:
                self._silent_at = now
            if self._since is None:
                self._since = now
                log.error("the database does not answer", extra={"reason": str(error)})
            raise
        if self._since is not None:
            log.info("the database answers again", extra={"away_seconds": round(time.monotonic() - self._since, 1)})
            self._since = None


def said_by(error: DBAPIError) -> str:
    """The first line of what the driver says."""
    return str(error.orig).partition("\n")[0].rstrip(".:")


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, InternalError) as error:
        said = said_by(error)
        if "full" in said or "No space left" in said:
            raise DatabaseFullError(f"The database is full: {said}") from error
        raise DatabaseAwayError(f"The database does not answer: {said}") from error
    except PoolTimeoutError as error:
        raise DatabaseAwayError("All connections to the database are in use.") from error
