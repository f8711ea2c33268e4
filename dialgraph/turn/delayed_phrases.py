"""Phrases that are armed now and spoken later, unless something else is spoken first."""

import asyncio
from collections.abc import Awaitable, Callable


class DelayedPhrases:
    """The delayed phrases of one turn: their timers, and the tasks that the timers started."""

    def __init__(self, is_silent: Callable[[], bool], fired: Callable[[str], None]) -> None:
        """Begin without phrases. `is_silent` returns whether the caller has heard nothing yet. `fired` is called with
        the name of a timer that has fired.
        """
        self._is_silent = is_silent
        self._fired = fired
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def arm(self, seconds: float, speak: Callable[[], Awaitable[None]]) -> None:
        """Call `speak` after this many seconds, if the caller has still heard nothing."""

        def fire() -> None:
            self._fired("delayed phrase")

            async def say() -> None:
                if self._is_silent():
                    await speak()

            task = asyncio.ensure_future(say())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        if self._is_silent():
            self._timers.append(asyncio.get_running_loop().call_later(seconds, fire))

    def disarm(self) -> None:
        """Cancel every phrase that has not begun."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    @property
    def armed(self) -> bool:
        """Return whether a phrase may still be spoken."""
        return bool(self._timers) and self._is_silent()

    async def begun(self) -> None:
        """Wait for the phrases that have begun."""
        if self._tasks:
            await asyncio.gather(*self._tasks)

    async def settle(self) -> None:
        """Disarm, and wait for the phrases that have begun."""
        self.disarm()
        await self.begun()

    def stop(self) -> None:
        """Disarm, and cancel the phrases that have begun."""
        self.disarm()
        for task in list(self._tasks):
            task.cancel()
