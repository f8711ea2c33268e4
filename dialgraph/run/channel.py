"""A bounded log of a run's events for one listener or several; each takes all that it has not heard at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from dialgraph.turn.events import Audio, Event

LIMIT = 64
"""Events that a run may be ahead of its fastest listener; slow ones slow it down instead of filling memory."""

MOST_KEPT_BYTES = 1024 * 1024
"""Of sound, for listeners who come later."""


class Channel:
    """Lighter than asyncio.Queue on the hot path: an event costs one append, a batch one wake-up."""

    def __init__(
        self, limit: int = LIMIT, keep: int = 0, heard: Iterable[Callable[[Sequence[Event]], None]] = ()
    ) -> None:
        """The first `keep` events stay, for listeners who come later. Each function of `heard` gets every event once,
        when the fastest listener takes it.
        """
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
        """Whether a further listener would hear it from its first word."""
        return self._first == 0 and len(self._events) <= self._keep

    def subscribe(self, left: Callable[[], None]) -> "Subscription":
        """A listener who begins with the first event still held. `left` is called when the subscription is closed."""
        subscription = Subscription(self, self._first, left)
        self._listeners.append(subscription)
        return subscription

    async def put(self, event: Event) -> None:
        """Hand over one event; waits while the fastest listener is behind."""
        if self._first + len(self._events) - self._furthest >= self._limit:
            await self._behind(self._limit)
        self.add(event)

    def add(self, event: Event) -> None:
        """The same without waiting."""
        self._events.append(event)
        if self._keep and type(event) is Audio:
            self._kept_bytes += len(event.data)
            if self._kept_bytes > MOST_KEPT_BYTES:
                self._keep = 0
        for listener in self._listeners:
            listener.wake()

    async def heard_out(self) -> bool:
        """Whether a listener has taken everything; returns when one has, or when nobody listens any more."""
        await self._behind(1)
        return self._furthest == self._first + len(self._events)

    def close(self) -> None:
        """No event will come any more; what waits can still be taken."""
        self._closed = True
        for listener in self._listeners:
            listener.wake()
        self._make_room()

    def news(self, listener: "Subscription") -> list[Event] | None:
        """All events that this listener has not heard; an empty list at the end, None if there is nothing yet."""
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
        """This listener takes no more."""
        if listener in self._listeners:
            self._listeners.remove(listener)
            self._make_room()

    async def _behind(self, limit: int) -> None:
        """Wait while the fastest listener is so many events behind."""
        while self._first + len(self._events) - self._furthest >= limit and not self._closed:
            if limit == 1 and not self._listeners:
                return
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(room)
            await room

    def _forget(self) -> None:
        """Drop what every listener has heard, once it is too much to be kept for one who comes later."""
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
    """One listener of a run, at a pace of its own: iterate to listen, close to leave."""

    def __init__(self, channel: Channel, position: int, left: Callable[[], None]) -> None:
        self._channel = channel
        self._left = left
        self.position = position
        """The number of the next event that this listener gets."""
        self.closed = False
        self.wake: Callable[[], None] = _nobody_waits
        """Called when there is news."""

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        """All that was said since the last time, as soon as there is something."""
        return self

    async def __anext__(self) -> list[Event]:
        if not (events := await self.pass_to(_nothing)):
            raise StopAsyncIteration
        return events

    async def pass_to(self, take: Callable[[list[Event]], bool]) -> list[Event]:
        """Call `take` with all that is said, from the event loop and not from a task. Returns the first events for
        which it returns False, or an empty list at the end of the run. Raises what `take` raises.
        """
        forward = _Forward(self._channel, self, take)
        self.wake = forward.soon
        try:
            forward.look()
            return await forward.refused
        finally:
            self.wake = _nobody_waits

    def close(self) -> None:
        """Hear no more; an iteration that waits ends."""
        if not self.closed:
            self.closed = True
            self._channel.leave(self)
            self.wake()
            self._left()


class _Forward:
    """Passes a subscription's events to a function, all that came in one turn of the event loop at once."""

    __slots__ = ("_channel", "_loop", "_scheduled", "_subscription", "_take", "refused")

    def __init__(self, channel: Channel, subscription: Subscription, take: Callable[[list[Event]], bool]) -> None:
        self._channel = channel
        self._subscription = subscription
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self.refused: asyncio.Future[list[Event]] = self._loop.create_future()
        """What the function did not take."""

    def soon(self) -> None:
        """There is something to look at."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.look)

    def look(self) -> None:
        """Pass on what has come. The end may have come with it: then nothing wakes us again."""
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
    """What comes is looked at when somebody asks for it."""
