"""Notice silence in a stream with one timer a stream instead of one a read, which cost a fifth of the hot path."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class SilenceWatch:
    """Calls `on_silence` once when a wait for the other side takes too long. Time that we spend ourselves is none."""

    def __init__(self, seconds: float, on_silence: Callable[[], None]) -> None:
        self._seconds = seconds
        self._on_silence = on_silence
        self._loop = asyncio.get_running_loop()
        self.since: float | None = None
        """Since when it is the other side's turn, on the event loop's clock; None: it is ours."""
        self._timer: asyncio.TimerHandle | None = None
        self.fired = False
        """Whether it was silent for too long."""

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(self._seconds, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shorten(self, seconds: float) -> None:
        """Wait no longer than this from now on."""
        if seconds < self._seconds and self._timer is not None:
            self._seconds = seconds
            self._timer.cancel()
            self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        waited = 0.0 if self.since is None else self._loop.time() - self.since
        if waited >= self._seconds:
            self.fired = True
            self._timer = None
            self._on_silence()
        else:
            self._timer = self._loop.call_later(self._seconds - waited, self._look)
