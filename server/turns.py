"""The turns that run: who hears them, which one the same request joins, which one a newer one ends.

A voice call repeats itself: hosts speculate, try again, close and send the same once more. The same turn runs once,
whoever asks for it how often, and a call that has gone on does not pay for the turn before.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Literal

from graphs.channel import Reader
from graphs.compile import CompiledGraph
from graphs.policy import Policy
from graphs.run import RunningTurn
from nodes.contract import Turn
from nodes.events import Event

KEPT_EVENTS = 4096
"""Of a turn that may be joined; a longer one can be joined no more."""
KEPT_SECONDS = 10.0
"""How long a turn that has ended can still be joined: hosts try again within seconds."""
MOST_KEPT = 512
"""Ended turns that are kept at a time."""

Cause = Literal["", "superseded", "shutdown", "gone"]
CallKey = tuple[str, str, str]


class SharedTurn:
    """One run of a graph, and all who hear it."""

    def __init__(self, run: RunningTurn, linger_ms: int) -> None:
        self.cause: Cause = ""
        """Why it was ended from outside."""
        self._run = run
        self._linger = linger_ms / 1000
        self._listeners = 0
        self._lingering: asyncio.TimerHandle | None = None
        self.forgetting: asyncio.TimerHandle | None = None
        """When it has ended and is kept: until then."""

    @property
    def run(self) -> RunningTurn:
        """The run."""
        return self._run

    @property
    def cut(self) -> bool:
        """Whether it was ended before its end."""
        return self._run.cancelled

    @property
    def joinable(self) -> bool:
        """Whether one more would hear it from its first word to a good end."""
        return not self._run.stopped and not self._run.cancelled and self._run.failure is None and self._run.whole

    def enter(self) -> Reader:
        """One more hears it."""
        self._listeners += 1
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        return self._run.reader()

    async def listen(self, reader: Reader) -> AsyncIterator[list[Event]]:
        """What is said, from the first word on. Raises what the turn failed with."""
        async for events in self._run.batches(reader):
            yield events

    def leave(self, reader: Reader) -> None:
        """One hears it no more; behind the last one it stops, at once or when nobody has come back."""
        reader.close()
        self._listeners -= 1
        if self._listeners == 0 and not self._run.done:
            if self._linger and not self.cause:
                self._lingering = asyncio.get_running_loop().call_later(self._linger, self._run.stop)
            else:
                self._run.stop()

    async def gone(self) -> None:
        """Return when nothing of it runs, unless somebody may still hear it."""
        if self._listeners == 0 and self._lingering is None:
            await self._run.wait()

    def end(self, cause: Cause) -> None:
        """Stop it for everybody."""
        if not self._run.done:
            self.cause = cause
            self._run.stop()


class Turns:
    """Every turn of this process. What belongs to one principal is never found by another."""

    def __init__(self) -> None:
        self.open: dict[SharedTurn, str] = {}
        """Those that run, each with its principal."""
        self._held: Counter[str] = Counter()
        """Places that each principal has taken."""
        self._by_key: dict[str, SharedTurn] = {}
        self._by_call: dict[CallKey, SharedTurn] = {}

    def enter(self, graph: CompiledGraph, turn: Turn, policy: Policy) -> tuple[SharedTurn, bool]:
        """The turn that this request hears, and whether it runs already. Without a call id it is always its own."""
        if not turn.call.id:
            return self._start(graph, turn, keep=0), False
        key = turn.key
        if policy.joins and (same := self._by_key.get(key)) is not None and same.joinable:
            return same, True
        call = (turn.call.principal, turn.endpoint, turn.call.id)
        if policy.newest_wins and (older := self._by_call.get(call)) is not None:
            older.end("superseded")
        shared = self._start(graph, turn, keep=KEPT_EVENTS if policy.joins else 0)
        self._by_call[call] = shared
        shared.run.when_done(lambda: self._forget_call(call, shared))
        if policy.joins:
            self._by_key[key] = shared
            shared.run.when_done(lambda: self._keep(key, shared))
        return shared, False

    def stop(self) -> None:
        """The server stops: end every turn; whoever hears one is told."""
        for shared in list(self.open):
            shared.end("shutdown")

    async def aclose(self) -> None:
        """End every turn, also those that nobody hears, and wait for that."""
        self.stop()
        for shared in list(self.open):
            await shared.run.wait()

    def _start(self, graph: CompiledGraph, turn: Turn, keep: int) -> SharedTurn:
        shared = SharedTurn(RunningTurn(graph, turn, keep=keep), turn.profile.linger_ms if keep else 0)
        self.open[shared] = turn.call.principal
        shared.run.when_done(lambda: self._over(shared))
        return shared

    @contextmanager
    def place(self, principal: str, most: int) -> Iterator[bool]:
        """Take one of so many places for a turn; 0: there is no bound. Whether there was one."""
        free = not most or self._held[principal] < most
        self._held[principal] += free
        try:
            yield free
        finally:
            self._held[principal] -= free
            if not self._held[principal]:
                del self._held[principal]

    def end_of(self, principal: str) -> None:
        """End the turns of somebody who is gone."""
        for shared, whose in list(self.open.items()):
            if whose == principal:
                shared.end("gone")

    def _over(self, shared: SharedTurn) -> None:
        del self.open[shared]

    def principals(self) -> set[str]:
        """Whose turns run."""
        return set(self.open.values())

    def _forget_call(self, call: CallKey, shared: SharedTurn) -> None:
        if self._by_call.get(call) is shared:
            del self._by_call[call]

    def _keep(self, key: str, shared: SharedTurn) -> None:
        """Keep a turn that ended well for a while; the oldest goes first if there are many."""
        if not shared.joinable:
            self._forget(key, shared)
            return
        if len(self._by_key) > MOST_KEPT:
            oldest = next((old for old, one in self._by_key.items() if one.run.done and one is not shared), key)
            self._forget(oldest, self._by_key[oldest])
        shared.forgetting = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, key, shared)

    def _forget(self, key: str, shared: SharedTurn) -> None:
        if self._by_key.get(key) is shared:
            del self._by_key[key]
        if shared.forgetting is not None:
            shared.forgetting.cancel()
            shared.forgetting = None
