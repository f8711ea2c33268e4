"""What is kept of a turn while it is told: noted as it is spoken, committed before its end is told."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from conversations.turns import BegunTurn, ConversationTurns
from conversations.values import State, UnknownConversationError
from database.errors import DatabaseError
from database.text import cleaned
from nodes.events import Event, Filler, Say, Transcript
from server.errors import ApiError
from server.wire.chunks import filler_text

log = logging.getLogger(__name__)

_TRY_AGAIN_SECONDS = (0.2, 1.0, 5.0)
NOTE_SECONDS = 1.0
"""How much of a turn a killed server can lose, in time."""


class Record(Protocol):
    """Hears a turn beside its client."""

    def heard(self, events: Iterable[Event]) -> None:
        """These have been told."""

    def unheard(self) -> None:
        """What came up to now has reached nobody."""

    async def end(self, state: State) -> None:
        """The turn has come to its end, which is about to be told. Raises what forbids to tell it."""

    async def close(self, state: State) -> None:
        """Nothing more is told; if it has not ended, this is what it is."""


class NoRecord:
    """Of a turn that belongs to no conversation."""

    def heard(self, events: Iterable[Event]) -> None:
        """See Record."""

    def unheard(self) -> None:
        """See Record."""

    async def end(self, state: State) -> None:
        """See Record."""

    async def close(self, state: State) -> None:
        """See Record."""


class ConversationRecord:
    """Of one turn of a conversation."""

    def __init__(self, keeper: "Keeper", turn: BegunTurn, filler_suffix: str) -> None:
        self.turn = turn
        self.gone: Callable[[], None] = lambda: None
        """Ends the turn: its conversation was deleted."""
        self._keeper = keeper
        self._suffix = filler_suffix
        self._words: list[str] = []
        self._ended = False
        keeper.running.add(self)

    @property
    def answer(self) -> str:
        """What was spoken up to now."""
        return cleaned("".join(self._words))

    def heard(self, events: Iterable[Event]) -> None:
        """See Record."""
        for event in events:
            if isinstance(event, Say | Transcript):
                self._words.append(event.text)
            elif isinstance(event, Filler):
                self._words.append(filler_text(event.text, self._suffix))

    def unheard(self) -> None:
        """See Record."""
        self._words.clear()

    async def end(self, state: State) -> None:
        """See Record. A commit that has begun comes to its end, whoever is cancelled meanwhile."""
        try:
            await asyncio.shield(self._keeper.log.end(self.turn, self.answer, state))
        except UnknownConversationError as error:
            self._over()
            raise conversation_gone() from error
        self._over()

    async def close(self, state: State) -> None:
        """See Record."""
        if not self._ended:
            await asyncio.shield(self._close(state))

    async def _close(self, state: State) -> None:
        for pause in _TRY_AGAIN_SECONDS:
            try:
                await self.end(state)
                return
            except ApiError:
                return  # its conversation is gone
            except DatabaseError:
                log.warning("the end of a turn could not be kept yet", extra={"state": state})
                await asyncio.sleep(pause)
        self._over()

    def _over(self) -> None:
        self._ended = True
        self._keeper.running.discard(self)


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
