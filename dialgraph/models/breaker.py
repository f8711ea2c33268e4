"""A circuit breaker: when a model's server is away, one call pays a deadline to find out, not every call."""

import asyncio
from collections.abc import Awaitable, Callable
from math import ceil
from types import TracebackType
from typing import Final, Literal, Self

from dialgraph.models.errors import Kind, ModelError

Health = Literal["up", "down", "trying"]
"""Answers; away, and refused at once; away, and one call is finding out whether it is back."""
_OUTAGE: Final[frozenset[Kind]] = frozenset({"unreachable", "timeout", "stalled"})
"""Failures that say something of the server and not of the request, and that cost a caller a deadline."""


class Breaker:
    """Of one model. Opens when an attempt fails and none was answered since it began; then one try goes at a time.

    A deadline that one question alone has missed is no outage: the first time the server is looked at (`looks`), and
    when it answers it is up again within milliseconds.
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
        """How the model is."""
        if self._away_until is None:
            return "up"
        return "trying" if self._trial is not None else "down"

    def attempt(self) -> "Attempt":
        """One request. Raises ModelError at once while the model is away."""
        attempt = Attempt(self)
        if self._away_until is not None:
            wait = self._away_until - _now()
            trying = self._trial is not None and _now() - self._trial.began < self._seconds
            if wait > 0 or trying:
                away = f"The model {self._name!r} is away."
                raise ModelError("unavailable", away, retry_after=str(max(ceil(wait), 1)))
            self._trial = attempt
        return attempt

    def answered(self) -> None:
        """It is there."""
        self._answered_at = _now()
        self._failed_in_a_row = 0
        self._away_until = None

    def ended(self, attempt: "Attempt", error: BaseException | None) -> None:
        """An attempt is over, well or not."""
        if self._trial is attempt:
            self._trial = None
        outage = isinstance(error, ModelError) and error.kind in _OUTAGE and not attempt.answered_once
        if outage and self._seconds and self._answered_at < attempt.began:
            self._failed_in_a_row += 1
            self._away_until = _now() + self._seconds
            if self._looks is not None and self._failed_in_a_row == 1:
                self._looking = asyncio.create_task(self._look(self._looks))

    async def aclose(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    async def _look(self, looks: Callable[[], Awaitable[bool]]) -> None:
        if await looks() and self._failed_in_a_row == 1:
            self._away_until = None


class Attempt:
    """One request on its way to its first part."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self.began = _now()
        self.answered_once = False
        """Whether anything has come back."""

    def connected(self) -> None:
        """A healthy status line has come: whoever waits behind this try may try too."""
        self._breaker.ended(self, None)

    def answered(self) -> None:
        """Something has come back."""
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
