"""What one turn uses, counted while it is told: as its models tell, or estimated where they do not."""

import time
from collections.abc import Iterable
from uuid import uuid4

from accounts.accounts import Identity
from models.usage import estimate, prompt_estimate
from nodes.contract import Turn
from nodes.events import Event, Filler, Say, Transcript, Usage
from server.ledger import Charge, Entry, Ledger


class Meter:
    """Counts one turn while it is told."""

    def __init__(
        self, ledger: Ledger, turn: Turn, identity: Identity | None = None, charges: Iterable[Charge] = ()
    ) -> None:
        self._ledger = ledger
        self._turn = turn
        self._identity = identity
        self._charges = charges
        self._prompt = prompt_estimate(turn.messages)
        self._counted = [0, 0]
        self._passes = 0
        self._characters = 0.0
        self._estimated = False

    def heard(self, events: Iterable[Event]) -> None:
        """These have been told."""
        for event in events:
            if isinstance(event, Usage):
                self._counted[0] += event.prompt_tokens
                self._counted[1] += event.completion_tokens
                self._passes += 1
                self._estimated = self._estimated or event.estimated
                self._characters = 0.0
            elif isinstance(event, Say | Filler | Transcript):
                self._characters += estimate(event.text)

    def end(self, outcome: str, first_word_ms: float, total_ms: float) -> None:
        """Nothing more is told. Words behind the last count are estimated."""
        uncounted = not self._passes or (outcome != "complete" and self._characters > 0)
        identity = self._identity
        self._ledger.add(
            Entry(
                id=str(uuid4()),
                user_id=identity.user.id if identity else None,
                principal=self._turn.call.principal,
                key_id=identity.key.id if identity and identity.key else None,
                endpoint=self._turn.endpoint,
                call_id=self._turn.call.id,
                turn_id=self._turn.call.turn_id,
                model=self._turn.model,
                passes=self._passes + (1 if uncounted else 0),
                prompt_tokens=self._counted[0] + (self._prompt if uncounted else 0),
                completion_tokens=self._counted[1] + (round(self._characters) if uncounted else 0),
                estimated=self._estimated or uncounted,
                first_word_ms=round(first_word_ms),
                total_ms=round(total_ms),
                outcome=outcome,
                created_at=time.time_ns() // 1_000_000,
            ),
            self._charges,
        )
