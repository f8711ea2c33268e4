"""The recorded calls: turns of one call together, and how the call ended."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from dialgraph.records.files import Feedback, Summary

LEASE: Final = timedelta(hours=12)
"""A call that lasts longer is split: some hosts use an id again."""
CallState = Literal["hung up", "ended", "open"]
"""`hung up`: a turn asked the host to end or transfer the call. `ended`: no turn came for the idle time."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call: its turns in their order."""

    turns: tuple[Summary, ...]
    feedback: tuple[Feedback, ...]
    state: CallState

    @property
    def id(self) -> str:
        """Return the id of the call, as the record names it."""
        return self.turns[0].call

    @property
    def failed(self) -> bool:
        """Return whether a turn failed."""
        return any(turn.failed for turn in self.turns)

    @property
    def interrupted(self) -> bool:
        """Return whether the caller left or spoke on during an answer."""
        return any(turn.interrupted for turn in self.turns)

    @property
    def slowest_ms(self) -> float:
        """Return the longest wait for a first word."""
        return max((turn.first_word_ms or turn.total_ms for turn in self.turns), default=0.0)

    @property
    def tools(self) -> set[str]:
        """Return the tools and actions of all turns."""
        return {tool for turn in self.turns for tool in turn.tools}

    @property
    def cost_usd(self) -> float | None:
        """Return the cost of all turns; None if it is not known of one."""
        costs = [turn.cost_usd for turn in self.turns]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    def holds(self, text: str) -> bool:
        """Return whether somebody said this text, whatever its case."""
        wanted = text.casefold()
        return any(wanted in turn.said.casefold() or wanted in turn.heard.casefold() for turn in self.turns)


def calls_of(
    turns: Iterable[Summary], feedback: Iterable[Feedback], idle_minutes: int, now: datetime
) -> list[RecordedCall]:
    """Return the calls, the newest first. A call ends by a hangup, after the idle time, or when its lease is over."""
    idle = timedelta(minutes=idle_minutes)
    by_call: dict[tuple[str, str, str], list[Summary]] = {}
    for turn in sorted(turns, key=lambda one: one.at):
        by_call.setdefault((turn.principal, turn.endpoint, turn.call), []).append(turn)
    given = list(feedback)
    found: list[RecordedCall] = []
    for (principal, _, call), own in by_call.items():
        notes = tuple(one for one in given if (one.principal, one.call) == (principal, call))
        for part in _split(own, idle):
            last = datetime.fromisoformat(part[-1].at)
            state: CallState = "hung up" if part[-1].ended_call else "ended" if now - last > idle else "open"
            found.append(RecordedCall(tuple(part), notes, state))
    return sorted(found, key=lambda one: one.turns[-1].at, reverse=True)


def _split(turns: list[Summary], idle: timedelta) -> list[list[Summary]]:
    """Return the turns of one id as calls: a turn after the end of a call begins a new one."""
    parts: list[list[Summary]] = []
    for turn in turns:
        at = datetime.fromisoformat(turn.at)
        before = parts[-1] if parts else []
        over = (
            not before
            or before[-1].ended_call
            or at - datetime.fromisoformat(before[-1].at) > idle
            or at - datetime.fromisoformat(before[0].at) > LEASE
        )
        if over:
            parts.append([turn])
        else:
            before.append(turn)
    return parts


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
