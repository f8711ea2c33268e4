"""A circuit breaker: when a model's server is down, one call waits for a deadline to find out, not every call."""

import asyncio
from collections.abc import Awaitable, Callable
from math import ceil
from types import TracebackType
from typing import Final, Literal, Self

from dialgraph.http_client import Kind
from dialgraph.models.errors import ModelError

Health = Literal["up", "down", "trying"]
"""`up`: answers. `down`: requests are refused immediately. `trying`: down, but one call tests whether it is back."""
_OUTAGE: Final[frozenset[Kind]] = frozenset({"unreachable", "timeout", "stalled"})
"""Failures that are about the server and not about the request, and that cost a caller a deadline."""


class Breaker:
    """The breaker of one model. It opens when an attempt fails and no attempt was answered since that one began; then
    it allows one trial at a time.

    A missed deadline may be the fault of one request. So after the first failure in a row, `looks` asks the server
    whether it answers at all; if it does, the breaker closes again within milliseconds.
    """

    def __init__(self, name: str, seconds: float, looks: Callable[[], Awaitable[bool]] | None = None) -> None:
        self._name = name
        self._seconds = seconds
        self._looks = looks
        self._looking: asyncio.Task[None] | None = None
        self._failed_in_a_row = 0
        self._away_until: float | None = None
        self._answered_at = float("-inf")
        self._trial: Attempt | None = None

    @property
    def health(self) -> Health:
        """Return the state of the model."""
        if self._away_until is None:
            return "up"
        return "trying" if self._trial is not None else "down"

    def attempt(self) -> "Attempt":
        """Return an attempt for one request. Raise ModelError immediately while the model is down."""
        attempt = Attempt(self)
        if self._away_until is not None:
            wait = self._away_until - _now()
            trying = self._trial is not None and _now() - self._trial.began < self._seconds
            if wait > 0 or trying:
                away = f"The model {self._name!r} is unavailable."
                raise ModelError("unavailable", away, retry_after=str(max(ceil(wait), 1)))
            self._trial = attempt
        return attempt

    def answered(self) -> None:
        """Record that the server answered."""
        self._answered_at = _now()
        self._failed_in_a_row = 0
        self._away_until = None

    def ended(self, attempt: "Attempt", error: BaseException | None) -> None:
        """Record the end of an attempt, successful or not."""
        if self._trial is attempt:
            self._trial = None
        outage = isinstance(error, ModelError) and error.kind in _OUTAGE and not attempt.answered_once
        if outage and self._seconds and self._answered_at < attempt.began:
            self._failed_in_a_row += 1
            self._away_until = _now() + self._seconds
            if self._looks is not None and self._failed_in_a_row == 1:
                self._looking = asyncio.create_task(self._look(self._looks))

    async def aclose(self) -> None:
        """Stop checking the server."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look(self, looks: Callable[[], Awaitable[bool]]) -> None:
        if await looks() and self._failed_in_a_row == 1:
            self._away_until = None


class Attempt:
    """One request until its first part."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self.began = _now()
        self.answered_once = False
        """Whether anything has arrived."""

    def connected(self) -> None:
        """Record a successful status line: requests that wait for this trial may try too."""
        self._breaker.ended(self, None)

    def answered(self) -> None:
        """Record that something has arrived."""
        if not self.answered_once:
            self.answered_once = True
            self._breaker.answered()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._breaker.ended(self, error)


def _now() -> float:
    return asyncio.get_running_loop().time()
