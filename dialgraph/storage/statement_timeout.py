"""How long PostgreSQL may take to answer one statement: a short time in a turn, longer for a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ANSWER_SECONDS = 1.5
"""For a statement of a turn. It usually takes milliseconds."""
UPLOAD_SECONDS = 30.0
"""For a statement that carries a file."""
_seconds: ContextVar[float | None] = ContextVar("seconds_to_answer", default=ANSWER_SECONDS)


@contextmanager
def patient(seconds: float | None = None) -> Iterator[None]:
    """Let each statement in the block take this many seconds; None: no limit."""
    token = _seconds.set(seconds)
    try:
        yield
    finally:
        _seconds.reset(token)


def seconds_to_answer() -> float | None:
    """Return the limit for the next statement in seconds; None: no limit."""
    return _seconds.get()
