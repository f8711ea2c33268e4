"""The channel: a bounded log of a run's events. Each listener takes all events that it has not received yet."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from dialgraph.turn.events import Audio, Event

LIMIT = 64
"""The most events that a run may be ahead of its fastest listener. Then it waits, so that memory does not fill up."""

MOST_KEPT_BYTES = 1024 * 1024
"""The most bytes of sound that are stored for later listeners. After more sound, nothing is stored for them."""


class Channel:
    """The log of a run's events. It is lighter than asyncio.Queue: one append per event, one wake-up per batch."""

    def __init__(
        self,
        limit: int = LIMIT,
        keep: int = 0,
        heard: Iterable[Callable[[Sequence[Event]], None]] = (),
        tap: Callable[[Event], None] | None = None,
    ) -> None:
        """Create an empty channel.

        `limit`: how many events the run may be ahead of its fastest listener.
        `keep`: how many events are stored, from the first one, for listeners who come later.
        `heard`: functions that get every event once, when the fastest listener takes it.
        `tap`: a function that gets every event at once, when it is added.
        """
        self._tap = tap
        self._limit = limit
        self._keep = keep
        self._heard = tuple(heard)
        self._kept_bytes = 0
        self._events: list[Event] = []
        self._first = 0
        self._furthest = 0
        self._closed = False
        self._listeners: list[Subscription] = []
        self._room: list[asyncio.Future[None]] = []

    @property
    def whole(self) -> bool:
        """Return whether a new listener would receive every event from the first one."""
        return self._first == 0 and len(self._events) <= self._keep

    def subscribe(self, left: Callable[[], None]) -> "Subscription":
        """Return a new listener. It begins with the first event that is still stored.

        `left` is called when the subscription is closed.
        """
        subscription = Subscription(self, self._first, left)
        self._listeners.append(subscription)
        return subscription

    async def put(self, event: Event) -> None:
        """Add one event. Wait first while the fastest listener is `limit` events behind."""
        if self._first + len(self._events) - self._furthest >= self._limit:
            await self._behind(self._limit)
        self.add(event)

    def add(self, event: Event) -> None:
        """Add one event without waiting."""
        self._events.append(event)
        if self._tap is not None:
            self._tap(event)
        if self._keep and type(event) is Audio:
            self._kept_bytes += len(event.data)
            if self._kept_bytes > MOST_KEPT_BYTES:
                self._keep = 0
        for listener in self._listeners:
            listener.wake()

    async def heard_out(self) -> bool:
        """Wait until a listener has taken everything or nobody listens. Return whether one has taken everything."""
        await self._behind(1)
        return self._furthest == self._first + len(self._events)

    def close(self) -> None:
        """Accept no more events. Listeners can still take the events that are stored."""
        self._closed = True
        for listener in self._listeners:
            listener.wake()
        self._make_room()

    def news(self, listener: "Subscription") -> list[Event] | None:
        """Return all events that this listener has not received.

        The list is empty at the end of the run. Return None if there are no new events yet.
        """
        if listener.closed:
            return []
        if listener.position == self._first + len(self._events):
            return [] if self._closed else None
        if listener.position == self._first and not self._keep and len(self._listeners) == 1:
            events, self._events = self._events, []
            self._first += len(events)
        else:
            events = self._events[listener.position - self._first :]
        listener.position += len(events)
        if (fresh := listener.position - self._furthest) > 0:
            for hear in self._heard:
                hear(events if fresh == len(events) else events[-fresh:])
            self._furthest = listener.position
            if self._room:
                self._make_room()
        if self._events:
            self._forget()
        return events

    def leave(self, listener: "Subscription") -> None:
        """Remove this listener."""
        if listener in self._listeners:
            self._listeners.remove(listener)
            self._make_room()

    async def _behind(self, limit: int) -> None:
        """Wait while the fastest listener is `limit` or more events behind."""
        while self._first + len(self._events) - self._furthest >= limit and not self._closed:
            if limit == 1 and not self._listeners:
                return
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(room)
            await room

    def _forget(self) -> None:
        """Drop the events that every listener has received, once more than `keep` are stored."""
        if len(self._events) > self._keep and self._listeners:
            seen = min(listener.position for listener in self._listeners)
            if seen > self._first:
                self._keep = 0
                del self._events[: seen - self._first]
                self._first = seen

    def _make_room(self) -> None:
        for room in self._room:
            if not room.done():
                room.set_result(None)
        self._room.clear()


class Subscription:
    """One listener of a run, at its own pace. Iterate it to listen, and close it to leave."""

    def __init__(self, channel: Channel, position: int, left: Callable[[], None]) -> None:
        self._channel = channel
        self._left = left
        self.position = position
        """The number of the next event that this listener gets."""
        self.closed = False
        self.wake: Callable[[], None] = _nobody_waits
        """Called when there are new events."""

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        """Iterate over lists of new events. Each list has all events since the last one."""
        return self

    async def __anext__(self) -> list[Event]:
        if not (events := await self.pass_to(_nothing)):
            raise StopAsyncIteration
        return events

    async def pass_to(self, take: Callable[[list[Event]], bool]) -> list[Event]:
        """Call `take` with all new events, first directly, later from the event loop, until it returns False.

        Return the events for which `take` returned False, or an empty list at the end of the run. Raise what `take`
        raises.
        """
        forward = _Forward(self._channel, self, take)
        self.wake = forward.soon
        try:
            forward.look()
            return await forward.refused
        finally:
            self.wake = _nobody_waits

    def close(self) -> None:
        """Stop listening. An iteration that waits ends."""
        if not self.closed:
            self.closed = True
            self._channel.leave(self)
            self.wake()
            self._left()


class _Forward:
    """Passes the events of a subscription to a function: all events of one cycle of the event loop in one batch."""

    __slots__ = ("_channel", "_loop", "_scheduled", "_subscription", "_take", "refused")

    def __init__(self, channel: Channel, subscription: Subscription, take: Callable[[list[Event]], bool]) -> None:
        self._channel = channel
        self._subscription = subscription
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self.refused: asyncio.Future[list[Event]] = self._loop.create_future()
        """The events that the function did not take."""

    def soon(self) -> None:
        """Pass on the new events in the next cycle of the event loop."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.look)

    def look(self) -> None:
        """Pass on the new events, and the end of the run if it has come: nothing wakes us after it."""
        self._scheduled = False
        if self.refused.done():
            return
        try:
            while (events := self._channel.news(self._subscription)) is not None:
                if not events or not self._take(events):
                    self.refused.set_result(events)
                    return
        except Exception as error:  # noqa: BLE001 (`pass_to` raises it again)
            self.refused.set_exception(error)


def _nothing(events: list[Event]) -> bool:
    return False


def _nobody_waits() -> None:
    """Do nothing. The events are read when somebody asks for them."""
