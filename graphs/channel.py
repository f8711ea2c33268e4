"""A bounded queue of events from one turn to its one reader, who takes all that is there at once."""

import asyncio

from nodes.events import Event

LIMIT = 256
"""Events that may wait; a slow reader slows the turn down instead of filling memory."""


class Channel:
    """Lighter than asyncio.Queue on the hot path: an event costs one append, a batch one wake-up."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._events: list[Event] = []
        self._closed = False
        self._arrival: asyncio.Future[None] | None = None
        self._room: list[asyncio.Future[None]] = []

    async def put(self, event: Event) -> None:
        """Hand over one event; waits while the reader is behind."""
        while len(self._events) >= self._limit and not self._closed:
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(room)
            await room
        self._events.append(event)
        self._wake()

    def close(self) -> None:
        """No event will come any more; what waits can still be taken."""
        self._closed = True
        self._wake()
        self._make_room()

    async def take(self) -> list[Event]:
        """All events that wait, at least one; an empty list at the end."""
        while not self._events and not self._closed:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        events, self._events = self._events, []
        self._make_room()
        return events

    def _wake(self) -> None:
        if self._arrival is not None:
            if not self._arrival.done():
                self._arrival.set_result(None)
            self._arrival = None

    def _make_room(self) -> None:
        for room in self._room:
            if not room.done():
                room.set_result(None)
        self._room.clear()
