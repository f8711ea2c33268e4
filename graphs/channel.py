"""A bounded log of a turn's events for one reader or several; each takes all that it has not seen at once."""

import asyncio

from nodes.events import Audio, Event

LIMIT = 64
"""Events that the turn may be ahead of its fastest reader; slow readers slow it down instead of filling memory."""

MOST_KEPT_BYTES = 1024 * 1024
"""Of sound, for readers who come later."""


class Channel:
    """Lighter than asyncio.Queue on the hot path: an event costs one append, a batch one wake-up."""

    def __init__(self, limit: int = LIMIT, keep: int = 0) -> None:
        self._limit = limit
        self._keep = keep
        self._kept_bytes = 0
        self._events: list[Event] = []
        self._first = 0
        self._furthest = 0
        self._closed = False
        self._readers: list[Reader] = []
        self._room: list[asyncio.Future[None]] = []

    @property
    def whole(self) -> bool:
        """Whether a further reader would hear it from its first word."""
        return self._first == 0 and len(self._events) <= self._keep

    def reader(self) -> "Reader":
        """A reader that begins with the first event still held."""
        reader = Reader(self, self._first)
        self._readers.append(reader)
        return reader

    async def put(self, event: Event) -> None:
        """Hand over one event; waits while the fastest reader is behind."""
        while self._first + len(self._events) - self._furthest >= self._limit and not self._closed:
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(room)
            await room
        self._events.append(event)
        if self._keep and type(event) is Audio:
            self._kept_bytes += len(event.data)
            if self._kept_bytes > MOST_KEPT_BYTES:
                self._keep = 0
        for reader in self._readers:
            reader.wake()

    def close(self) -> None:
        """No event will come any more; what waits can still be taken."""
        self._closed = True
        for reader in self._readers:
            reader.wake()
        self._make_room()

    async def take(self, reader: "Reader") -> list[Event]:
        """All events that this reader has not seen, at least one; an empty list at the end."""
        while reader.position == self._first + len(self._events) and not self._closed and not reader.closed:
            await reader.arrival()
        if reader.closed:
            return []
        if reader.position == self._first and not self._keep and len(self._readers) == 1:
            events, self._events = self._events, []
            self._first += len(events)
        else:
            events = self._events[reader.position - self._first :]
        reader.position += len(events)
        if reader.position > self._furthest:
            self._furthest = reader.position
            self._make_room()
        self._forget()
        return events

    def leave(self, reader: "Reader") -> None:
        """This reader takes no more."""
        if reader in self._readers:
            self._readers.remove(reader)

    def _forget(self) -> None:
        """Drop what every reader has seen, once it is too much to be kept for one who comes later."""
        if len(self._events) > self._keep and self._readers:
            seen = min(reader.position for reader in self._readers)
            if seen > self._first:
                self._keep = 0
                del self._events[: seen - self._first]
                self._first = seen

    def _make_room(self) -> None:
        for room in self._room:
            if not room.done():
                room.set_result(None)
        self._room.clear()


class Reader:
    """One who takes a turn's events, at his own pace."""

    def __init__(self, channel: Channel, position: int) -> None:
        self._channel = channel
        self._arrival: asyncio.Future[None] | None = None
        self.position = position
        """The number of the next event that he gets."""
        self.closed = False

    async def take(self) -> list[Event]:
        """See Channel."""
        return await self._channel.take(self)

    def close(self) -> None:
        """Take no more; a take that waits returns empty."""
        self.closed = True
        self._channel.leave(self)
        self.wake()

    def wake(self) -> None:
        """There is something to look at."""
        if self._arrival is not None:
            if not self._arrival.done():
                self._arrival.set_result(None)
            self._arrival = None

    async def arrival(self) -> None:
        """Wait for that."""
        self._arrival = asyncio.get_running_loop().create_future()
        await self._arrival
