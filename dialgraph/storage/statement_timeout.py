"""How long a PostgreSQL may take to answer one statement: a moment in a caller's turn, longer for a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ANSWER_SECONDS = 1.5
"""For a statement of a caller's turn; it usually takes milliseconds."""
UPLOAD_SECONDS = 30.0
"""For a statement that carries a file."""
_seconds: ContextVar[float | None] = ContextVar("seconds_to_answer", default=ANSWER_SECONDS)


@contextmanager
def patient(seconds: float | None = None) -> Iterator[None]:
    """Let each statement within the block take so many seconds; None: as long as it needs."""
    token = _seconds.set(seconds)
    try:
        yield
    finally:
        _seconds.reset(token)


def seconds_to_answer() -> float | None:
    """For the next statement."""
    return _seconds.get()
