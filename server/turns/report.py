"""The report of a turn that is over: one value, from which metrics, traces and records are made."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from dialgraph.records.recorder import TurnEnd
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.times import ModelTime, Part, ReplyMarks, TurnTimes
from server.turns.ledger import Entry
from server.turns.reply_times import summed, times_data


@dataclass(frozen=True)
class TurnReport:
    """What is known of a turn when nothing of it is active any more and its clients have their replies."""

    entry: Entry
    """The row of usage: the tokens, the cost and the outcome."""
    asked: TurnRequest
    times: TurnTimes

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
        return TurnEnd(entry.id, entry.outcome, times, tokens, usage=usage)

    def seconds(self, mark: float) -> float:
        """Return the seconds from the request until this mark."""
        return max(mark - self.reply.came, 0.0)


class ReportSink(Protocol):
    """Takes the reports of turns. It must return at once and must not raise."""

    def turn_over(self, report: TurnReport) -> None:
        """Take the report of one turn."""


def tokens_by_model(entry: Entry, models: Sequence[ModelTime]) -> dict[str, tuple[int, int]]:
    """Return the prompt and completion tokens of each model, by its name in the settings.

    They add up to those of the entry. Tokens that no model has reported belong to the last one that was asked.
    """
    found: dict[str, tuple[int, int]] = {}
    left = [entry.prompt_tokens, entry.completion_tokens]
    for one in models:
        prompt, completion = found.get(one.model, (0, 0))
        found[one.model] = prompt + one.prompt_tokens, completion + one.completion_tokens
        left = [left[0] - one.prompt_tokens, left[1] - one.completion_tokens]
    last = models[-1].model if models else ""
    prompt, completion = found.get(last, (0, 0))
    found[last] = max(prompt + left[0], 0), max(completion + left[1], 0)
    return {name: counts for name, counts in found.items() if any(counts)}
