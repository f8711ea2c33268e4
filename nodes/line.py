"""The line to the caller's ear: what every step of a turn speaks through, the outlets on it, and its timers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import uuid4

from nodes.events import Event, Say, Transcript

Sink = Callable[[Event], Awaitable[None]]
"""Where events end: our queue when we serve, LangGraph's stream writer in Studio and notebooks."""


class Outlet(Protocol):
    """A stage between the nodes and the sink that may hold words back and turn them into something else."""

    async def push(self, event: Event) -> None:
        """Take one event; give on what is ready."""

    async def flush(self) -> None:
        """Give on everything that is held back, and return when the sink has it."""

    async def aclose(self) -> None:
        """Stop at once; what is held back is lost."""


async def _nowhere(event: Event) -> None:
    raise RuntimeError("A turn speaks only while its graph runs.")


class Line:
    """The one line to the caller, shared by all steps of a turn."""

    def __init__(self, *, keeps_words: bool = False) -> None:
        self._keeps_words = keeps_words
        self.spoken = False
        self.answered = False
        """Whether a step has spoken words; an acknowledgement that came by itself does not count."""
        self.voiced = False
        """Whether words leave as sound of ours; then no model is asked for its own."""
        self.words: list[str] = []
        """What was said, where it becomes a message; a served answer is not kept, however long it is."""
        self.id = f"msg_{uuid4().hex[:24]}"
        """Of the assistant message that the turn becomes in Studio and notebooks."""
        self.started = time.perf_counter()
        self.sink: Sink = _nowhere
        """Where it ends; set before the first step runs."""
        self._outlets: list[Outlet] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._late: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Whether it leads anywhere yet."""
        return self.sink is not _nowhere

    async def send(self, event: Event) -> None:
        """Pass one event through the outlets to the sink."""
        if event.audible:
            if not self.spoken:
                self.spoken = True
                self.stop_timers()
            if self._keeps_words and isinstance(event, Say | Transcript):
                self.words.append(event.text)
        if self._outlets:
            await self._outlets[-1].push(event)
        else:
            await self.sink(event)

    def attach(self, make: Callable[[Sink], Outlet]) -> None:
        """Put an outlet in front of what the line ends in now."""
        self._outlets.append(make(self._outlets[-1].push if self._outlets else self.sink))

    def after(self, seconds: float, speak: Callable[[], Awaitable[None]]) -> None:
        """Speak then, unless something has been spoken before."""

        def fire() -> None:
            async def say() -> None:
                if not self.spoken:
                    await speak()

            task = asyncio.ensure_future(say())
            self._late.add(task)
            task.add_done_callback(self._late.discard)

        if not self.spoken:
            self._timers.append(asyncio.get_running_loop().call_later(seconds, fire))

    def stop_timers(self) -> None:
        """Nothing that was to be said later will be."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    async def drain(self) -> None:
        """Stop the timers and wait until the sink has everything."""
        self.stop_timers()
        if self._late:
            await asyncio.gather(*self._late)
        for outlet in reversed(self._outlets):
            await outlet.flush()

    async def aclose(self) -> None:
        """Stop at once: timers, what they started, and outlets."""
        self.stop_timers()
        for task in list(self._late):
            task.cancel()
        for outlet in self._outlets:
            await outlet.aclose()

    def elapsed_ms(self) -> float:
        """Since the turn began."""
        return (time.perf_counter() - self.started) * 1000
