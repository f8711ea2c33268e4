"""Tracks whether a database answers. While it does not, requests are refused immediately. Each change is logged."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dialgraph.storage.errors import DatabaseAwayError, DatabaseFullError

log = logging.getLogger(__name__)

_SILENT_SECONDS = 0.9
"""A failure after this time counts as silence. After an earlier failure the next request tries again immediately."""
_AWAY_SECONDS = 0.5
"""How long a silent database is not asked again. Until then requests fail immediately."""


class Outage:
    """Tracks whether one database answers."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._silent_at = float("-inf")

    def refuse_at_once(self) -> None:
        """Raise DatabaseAwayError if a request has just waited for an answer and got none."""
        if self._since is not None and time.monotonic() - self._silent_at < _AWAY_SECONDS:
            raise DatabaseAwayError("The database does not answer.")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn the driver's errors into DatabaseAwayError and DatabaseFullError. Note whether the database answers."""
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
                log.error("the database did not answer", extra={"reason": str(error)})
            raise
        if self._since is not None:
            log.info("the database answered again", extra={"away_seconds": round(time.monotonic() - self._since, 1)})
            self._since = None


def said_by(error: DBAPIError) -> str:
    """Return the first line of the driver's message."""
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
