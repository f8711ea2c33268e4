"""What is kept of a turn while it is told: noted as it is spoken, committed before its end is told."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from conversations.turns import BegunTurn, ConversationTurns
from conversations.values import State, UnknownConversationError
from database.errors import DatabaseError
from nodes.events import Event, Filler, Say
from server.errors import ApiError
from server.wire.chunks import filler_text

log = logging.getLogger(__name__)

NOTE_SECONDS = 1.0
"""How much of a turn a killed server can lose, in time."""


class Record(Protocol):
    """Hears a turn beside its client."""

    def heard(self, events: Iterable[Event]) -> None:
        """These have been told."""

    async def complete(self) -> None:
        """The turn has come to its end, which is about to be told. Raises what forbids to tell it."""

    async def close(self, state: State) -> None:
        """Nothing more is told; if it is not complete, this is what it is."""


class NoRecord:
    """Of a turn that belongs to no conversation."""

    def heard(self, events: Iterable[Event]) -> None:
        """See Record."""

    async def complete(self) -> None:
        """See Record."""

    async def close(self, state: State) -> None:
        """See Record."""


class ConversationRecord:
    """Of one turn of a conversation."""

    def __init__(self, keeper: "Keeper", turn: BegunTurn, filler_suffix: str, gone: Callable[[], None]) -> None:
        self.turn = turn
        self.gone = gone
        """Ends the turn: its conversation was deleted."""
        self._keeper = keeper
        self._suffix = filler_suffix
        self._words: list[str] = []
        self._ended = False
        keeper.running.add(self)

    @property
    def answer(self) -> str:
        """What was spoken up to now."""
        return "".join(self._words)

    def heard(self, events: Iterable[Event]) -> None:
        """See Record."""
        for event in events:
            if isinstance(event, Say):
                self._words.append(event.text)
            elif isinstance(event, Filler):
                self._words.append(filler_text(event.text, self._suffix))

    async def complete(self) -> None:
        """See Record."""
        await self._end("complete")

    async def close(self, state: State) -> None:
        """See Record. Outlasts the cancellation of whoever tells the turn."""
        self._keeper.running.discard(self)
        if not self._ended:
            try:
                await asyncio.shield(self._end(state))
            except (ApiError, DatabaseError):
                log.warning("the end of a turn could not be kept", extra={"state": state})

    async def _end(self, state: State) -> None:
        self._ended = True
        self._keeper.running.discard(self)
        try:
            # A commit that has begun comes to its end, whoever is cancelled meanwhile.
            await asyncio.shield(self._keeper.log.end(self.turn, self.answer, state))
        except UnknownConversationError as error:
            raise conversation_gone() from error


class Keeper:
    """Notes what the running turns of this process have said, all in one commit a second."""

    def __init__(self, turns: ConversationTurns) -> None:
        self.log = turns
        self.running: set[ConversationRecord] = set()

    async def note(self) -> None:
        """Note what they have said up to now; one whose conversation was deleted ends."""
        if records := {record.turn: record for record in self.running}:
            try:
                gone = await self.log.note({turn: record.answer for turn, record in records.items()})
            except DatabaseError:
                log.warning("what was spoken could not be noted", extra={"turns": len(records)})
            else:
                for turn in gone & {record.turn for record in self.running}:
                    records[turn].gone()


def conversation_gone() -> ApiError:
    """For a turn whose conversation was deleted while it ran."""
    return ApiError(404, "The conversation is gone.", code="conversation_gone")
