"""Stores the turns of conversations: their words while they are spoken, and their end before it is sent."""

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
"""How often the words are stored. A server that is killed loses at most this much of a turn."""


class TurnRecord:
    """The record of a run for one turn of a conversation."""

    def __init__(self, recorder: "TurnRecorder", turn: BegunTurn, *, profile: Profile, streaming: bool) -> None:
        """`streaming`: the client gets the words as they are spoken; otherwise it gets nothing before the end."""
        self.turn = turn
        self._run: Run | None = None
        self._recorder = recorder
        self._profile = profile
        self._streaming = streaming
        self._words: list[str] = []
        self._ended = False
        recorder.running.add(self)

    def follow(self, run: Run) -> None:
        """Set the turn's run, which is stopped if the conversation is deleted."""
        self._run = run

    def lose(self) -> None:
        """Stop the run: the conversation was deleted."""
        if self._run is not None:
            self._run.stop(conversation_gone())

    @property
    def answer(self) -> str:
        """Return the words that were spoken so far."""
        return cleaned("".join(self._words))

    def heard(self, events: Sequence[Event]) -> None:
        """Add the words of the events to the answer."""
        for event in events:
            if isinstance(event, Say | Transcript | Fallback):
                self._words.append(event.text)
            elif isinstance(event, Filler):
                self._words.append(self._profile.filler(event.text))

    async def end(self, state: State) -> None:
        """Commit the answer and how the turn ended. A commit that has begun finishes even if the task is cancelled.

        Raises ApiError if the conversation was deleted.
        """
        try:
            await asyncio.shield(self._recorder.log.end(self.turn, self.answer, state))
        except UnknownConversationError as error:
            self._over()
            raise conversation_gone() from error
        self._over()

    async def close(self, state: State) -> None:
        """Commit how the turn ended if `end` did not, and try up to three times."""
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
                return  # its conversation was deleted
            except DatabaseError:
                log.warning("the end of a turn could not be stored", extra={"state": state})
                await asyncio.sleep(pause)
        self._over()

    def _over(self) -> None:
        self._ended = True
        self._recorder.running.discard(self)


class TurnRecorder:
    """Stores the words of all running turns of this process, in one commit a second."""

    def __init__(self, turns: ConversationTurns) -> None:
        self.log = turns
        self.running: set[TurnRecord] = set()

    async def note(self) -> None:
        """Store what the running turns have said so far. Stop those whose conversation was deleted."""
        if records := {record.turn: record for record in self.running}:
            try:
                gone = await self.log.note({turn: record.answer for turn, record in records.items()})
            except DatabaseError:
                log.warning("the words of running turns could not be stored", extra={"turns": len(records)})
            else:
                for turn in gone & {record.turn for record in self.running}:
                    records[turn].lose()
