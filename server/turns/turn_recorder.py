"""What is kept of a turn of a conversation: noted as it is spoken, committed before its end is told."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from dialgraph.profiles.profile import Profile
from dialgraph.run.run import Run, State
from dialgraph.storage.errors import DatabaseError
from dialgraph.storage.text import cleaned
from dialgraph.turn.events import Event, Fallback, Filler, Say, Transcript
from dialgraph.users.conversations.turns import BegunTurn, ConversationTurns
from dialgraph.users.conversations.values import UnknownConversationError
from server.errors import ApiError, conversation_gone

log = logging.getLogger(__name__)

_TRY_AGAIN_SECONDS: Final = (0.2, 1.0, 5.0)
NOTE_SECONDS: Final = 1.0
"""How much of a turn a killed server can lose, in time."""


class TurnRecord:
    """Of one turn of a conversation: the record of its run."""

    def __init__(self, recorder: "TurnRecorder", turn: BegunTurn, *, profile: Profile, streaming: bool) -> None:
        """`streaming`: what was spoken has been heard; else nothing is heard before the end."""
        self.turn = turn
        self._run: Run | None = None
        self._recorder = recorder
        self._profile = profile
        self._streaming = streaming
        self._words: list[str] = []
        self._ended = False
        recorder.running.add(self)

    def follow(self, run: Run) -> None:
        """This is the turn's run: it ends when the conversation is deleted."""
        self._run = run

    def lose(self) -> None:
        """The conversation was deleted."""
        if self._run is not None:
            self._run.stop(conversation_gone())

    @property
    def answer(self) -> str:
        """What was spoken up to now."""
        return cleaned("".join(self._words))

    def heard(self, events: Sequence[Event]) -> None:
        """See dialgraph.run.run.Record."""
        for event in events:
            if isinstance(event, Say | Transcript | Fallback):
                self._words.append(event.text)
            elif isinstance(event, Filler):
                self._words.append(self._profile.filler(event.text))

    async def end(self, state: State) -> None:
        """See dialgraph.run.run.Record. A commit that has begun comes to its end, whoever is cancelled meanwhile."""
        try:
            await asyncio.shield(self._recorder.log.end(self.turn, self.answer, state))
        except UnknownConversationError as error:
            self._over()
            raise conversation_gone() from error
        self._over()

    async def close(self, state: State) -> None:
        """See dialgraph.run.run.Record."""
        if not self._ended:
            if not self._streaming:
                self._words.clear()
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
        self._recorder.running.discard(self)


class TurnRecorder:
    """Notes what the running turns of this process have said, all in one commit a second."""

    def __init__(self, turns: ConversationTurns) -> None:
        self.log = turns
        self.running: set[TurnRecord] = set()

    async def note(self) -> None:
        """Note what they have said up to now; one whose conversation was deleted ends."""
        if records := {record.turn: record for record in self.running}:
            try:
                gone = await self.log.note({turn: record.answer for turn, record in records.items()})
            except DatabaseError:
                log.warning("what was spoken could not be noted", extra={"turns": len(records)})
            else:
                for turn in gone & {record.turn for record in self.running}:
                    records[turn].lose()
