"""Sends frames of sound as fast as they are played, a little ahead.

Frames that are sent too early would still play after a barge-in. Frames that are sent too late leave a gap.
"""

import asyncio
from collections.abc import Callable

LEAD_SECONDS = 0.2


class Pace:
    """The pace of one turn's frames. Each frame is due relative to the first one, so that delays do not add up."""

    def __init__(self, frame_seconds: float, now: Callable[[], float], lead_seconds: float = LEAD_SECONDS) -> None:
        self._now = now
        self._frame = frame_seconds
        self._lead = lead_seconds
        self._due = 0.0

    async def heard(self) -> None:
        """Return when the frames that were sent have been played."""
        ahead = self._due - self._now()
        if ahead > 0:
            await asyncio.sleep(ahead)

    async def wait(self) -> None:
        """Return when the next frame is due."""
        now = self._now()
        # After a pause the clock starts again from now, because lost time cannot be made up.
        self._due = max(self._due, now)
        ahead = self._due - now - self._lead
        self._due += self._frame
        if ahead > 0:
            await asyncio.sleep(ahead)
