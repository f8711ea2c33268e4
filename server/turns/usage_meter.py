"""Counts the tokens of one turn while it runs. Uses the counts of the models, or estimates if a model reports none."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from dialgraph.environment import Environment
from dialgraph.graph.errors import StoppedError
from dialgraph.models.usage import estimate, prompt_estimate
from dialgraph.run.run import Run
from dialgraph.turn.events import Event, Fallback, Filler, Say, Transcript, Usage
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.times import ModelTime
from server.errors import api_error
from server.turns.admission import Admission
from server.turns.ledger import Charge, Entry, Ledger
from server.turns.prices import ModelCost, Prices, whole

_SPOKEN: Final = (Filler, Transcript, Fallback)


class UsageMeter:
    """The observer of a run that counts the tokens and times of its turn."""

    def __init__(
        self,
        ledger: Ledger,
        prices: Prices,
        asked: TurnRequest,
        admission: Admission,
        environment: Environment,
        *,
        keeps_words: bool = False,
    ) -> None:
        """Take over the charges of the admission. They are settled when the turn ends."""
        self._ledger = ledger
        self._prices = prices
        self.words: list[str] | None = [] if keeps_words else None
        """What the caller heard, if somebody needs it."""
        self.costs: Sequence[ModelCost] = ()
        """What each model cost, when the turn has ended."""
        self._environment = environment
        self._identity = admission.identity
        self._charges: Iterable[Charge] = admission.take_charges()
        self._principal = asked.call.principal
        self._about: dict[str, Any] = {
            "endpoint": asked.endpoint, "call_id": asked.call.id, "turn_id": asked.call.turn_id, "model": asked.model,
        }  # fmt: skip
        self._prompt = prompt_estimate(asked.messages)
        self._began = environment.now()
        self._first_ms = 0.0
        self._counted = [0, 0]
        self._passes = 0
        self._tokens = 0.0
        self._estimated = False
        self.entry: Entry | None = None
        """The row, when the turn has ended."""

    def heard(self, events: Sequence[Event]) -> None:
        """Count the tokens of the events, and note when the first word was sent."""
        for event in events:
            if type(event) is Say:
                self._tokens += estimate(event.text)
            elif isinstance(event, Usage):
                self._counted[0] += event.prompt_tokens
                self._counted[1] += event.completion_tokens
                self._passes += 1
                self._estimated = self._estimated or event.estimated
                self._tokens = 0.0
            elif isinstance(event, _SPOKEN):
                self._tokens += estimate(event.text)
            if self.words is not None and isinstance(event, Say | Filler | Transcript | Fallback):
                self.words.append(event.text)
            if not self._first_ms and event.audible:
                self._first_ms = self._elapsed_ms()

    def ended(self, run: Run) -> None:
        """Write the row with the outcome of the run."""
        self.end(outcome_of(run.failure), run.times.models)
        if self.entry is not None:
            run.times.tokens = self.entry.prompt_tokens + self.entry.completion_tokens
            run.times.cost_usd = self.entry.cost_usd

    def end(self, outcome: str, models: Sequence[ModelTime] = ()) -> None:
        """Write the row. The tokens of words after the last count are estimated."""
        entry = self._entry(outcome)
        self.costs = costs = self._prices.of(models, entry.prompt_tokens, entry.completion_tokens)
        if costs:
            entry = replace(
                entry,
                answered_by=costs[-1].upstream[:256],
                cost_usd=whole([one.own for one in costs]),
                list_cost_usd=whole([one.listed for one in costs]),
            )
        self.entry = entry
        self._ledger.add(entry, self._charges)

    def _entry(self, outcome: str) -> Entry:
        uncounted = not self._passes or (outcome != "complete" and self._tokens > 0)
        identity = self._identity
        return Entry(
            id=self._environment.id(),
            user_id=identity.user.id if identity else None,
            principal=self._principal,
            key_id=identity.key.id if identity and identity.key else None,
            **self._about,
            passes=self._passes + (1 if uncounted else 0),
            prompt_tokens=self._counted[0] + (self._prompt if uncounted else 0),
            completion_tokens=self._counted[1] + (round(self._tokens) if uncounted else 0),
            estimated=self._estimated or uncounted,
            first_word_ms=round(self._first_ms),
            total_ms=round(self._elapsed_ms()),
            outcome=outcome,
            created_at=int(self._environment.date() * 1000),
        )

    def _elapsed_ms(self) -> float:
        return (self._environment.now() - self._began) * 1000


def outcome_of(failure: BaseException | None) -> str:
    """Return `complete`, `cancelled` for a turn that its client left, or `error:` with the code that the client got."""
    if failure is None:
        return "complete"
    return "cancelled" if isinstance(failure, StoppedError) else f"error:{api_error(failure).code}"
