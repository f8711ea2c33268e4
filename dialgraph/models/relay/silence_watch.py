"""Detects a stream that is silent or takes too long. One timer serves the whole stream, because one timer for each read
took a fifth of the hot path.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self


class SilenceWatch:
    """Calls `give_up` once when a wait for the other side, or the whole stream, takes too long. Time that we spend
    ourselves does not count as waiting.
    """

    def __init__(self, idle_seconds: float, total_seconds: float, give_up: Callable[[], None]) -> None:
        self._idle = idle_seconds
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + total_seconds
        self._timer: asyncio.TimerHandle | None = None
        self.since: float | None = None
        """Since when we wait for the other side, on the event loop's clock; None: we are not waiting."""
        self.reason: Literal["", "silent", "late"] = ""
        """Why the stream was given up."""

    def __enter__(self) -> Self:
        self._look_within(self._idle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shorten(self, seconds: float) -> None:
        """Shorten the longest wait from now on."""
        if seconds < self._idle and self._timer is not None:
            self._idle = seconds
            self._timer.cancel()
            self._look_within(seconds)

    def _look_within(self, seconds: float) -> None:
        left = self._ends - self._loop.time()
        self._timer = self._loop.call_later(max(0.0, min(seconds, left)), self._look)

    def _look(self) -> None:
        now = self._loop.time()
        waited = 0.0 if self.since is None else now - self.since
        if waited >= self._idle or now >= self._ends:
            self.reason = "silent" if waited >= self._idle else "late"
            self._timer = None
            self._give_up()
        else:
            self._look_within(self._idle - waited)
