"""The report of a turn that is over: one value, from which metrics, traces and records are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from dialgraph.models.history.text import last_user_text
from dialgraph.records.recorder import TurnEnd
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.times import Part, ReplyMarks, TurnTimes, summed, times_data
from server.turns.ledger import Entry
from server.turns.prices import ModelCost


@dataclass(frozen=True)
class TurnReport:
    """What is known of a turn when nothing of it is active any more and its clients have their replies."""

    entry: Entry
    """The row of usage: the tokens, the cost and the outcome."""
    asked: TurnRequest
    times: TurnTimes
    heard: str = ""
    """What the caller heard, if a sink needs it."""
    costs: Sequence[ModelCost] = ()
    """What each model cost. Their tokens add up to those of the entry."""
    private_values: Sequence[str] = ()
    """The values of the private slots of the call's memory."""

    @cached_property
    def reply(self) -> ReplyMarks:
        """Return the marks of the first client's reply, or of a turn without a client."""
        started = self.times.started
        return self.times.reply or ReplyMarks(self.asked.came or started, self.asked.read or started)

    @cached_property
    def parts(self) -> Sequence[Part]:
        """Return the parts of the wait for the first word or sound."""
        return self.times.parts(self.reply, self.times.ended)

    def record_end(self) -> TurnEnd:
        """Return what the record of the turn says of its end."""
        entry = self.entry
        usage = {
            "prompt_tokens": entry.prompt_tokens, "completion_tokens": entry.completion_tokens,
            "estimated": entry.estimated, "calls": entry.passes,
        }  # fmt: skip
        times = times_data(self.reply, self.times.ended, summed(self.parts))
        tokens = entry.prompt_tokens + entry.completion_tokens
        return TurnEnd(entry.id, entry.outcome, times, tokens, entry.cost_usd, usage)

    @property
    def times_in_ms(self) -> Mapping[str, float]:
        """Return the times of the reply in milliseconds since its request."""
        found = times_data(self.reply, self.times.ended, {})
        return {name: ms for name, ms in found.items() if name != "parts"}

    @property
    def said(self) -> str:
        """Return what the caller said."""
        return last_user_text(self.asked.messages)

    def seconds(self, mark: float) -> float:
        """Return the seconds from the request until this mark."""
        return max(mark - self.reply.came, 0.0)


class ReportSink(Protocol):
    """Takes the reports of turns. It must return at once and must not raise."""

    def turn_over(self, report: TurnReport) -> None:
        """Take the report of one turn."""
