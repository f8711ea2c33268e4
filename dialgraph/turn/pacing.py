"""Frames of sound leave as fast as they are heard, a little ahead: a burst outlives a barge-in, a delay is a gap."""

import asyncio
from collections.abc import Callable

LEAD_SECONDS = 0.2


class Pace:
    """Wait before each frame until it is due, counted from the first, so that no delay adds up."""

    def __init__(self, frame_seconds: float, now: Callable[[], float], lead_seconds: float = LEAD_SECONDS) -> None:
        self._now = now
        self._frame = frame_seconds
        self._lead = lead_seconds
        self._due = 0.0

    async def heard(self) -> None:
        """Return when what has left has been heard."""
        ahead = self._due - self._now()
        if ahead > 0:
            await asyncio.sleep(ahead)

    async def wait(self) -> None:
        """Return when the next frame is due."""
        now = self._now()
        # After a pause in the talk the clock starts anew: the past cannot be caught up with.
        self._due = max(self._due, now)
        ahead = self._due - now - self._lead
        self._due += self._frame
        if ahead > 0:
            await asyncio.sleep(ahead)
