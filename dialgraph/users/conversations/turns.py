"""Stores turns while they run: their start before the model is asked, their words while it speaks, and their end before
it is sent.

Only one turn of a conversation runs at a time, in all processes. A turn that comes while another runs waits for it, for
a limited time.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import and_, case, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dialgraph.storage.database import Database
from dialgraph.storage.tables.conversations import CONVERSATION, TURN
from dialgraph.users.conversations.conversations import LEASE_MILLISECONDS, is_running, kept, owned
from dialgraph.users.conversations.copies import ConversationCache
from dialgraph.users.conversations.prompt import MOST_TURNS
from dialgraph.users.conversations.values import (
    BusyConversationError,
    KeptTurn,
    OtherRequestError,
    PassedTurnError,
    State,
    UnknownConversationError,
)

WAIT_SECONDS = 6.0
"""How long to wait for the turn before. It is longer than the lease of a turn whose server was killed."""
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class BegunTurn:
    """A turn that runs, and the turns before it."""

    id: str
    user_id: str
    conversation_id: str
    position: int
    question: str
    earlier: tuple[KeptTurn, ...]


class ConversationTurns:
    """Reads and writes the rows of the turns that run."""

    def __init__(self, database: Database, copies: ConversationCache, wait_seconds: float = WAIT_SECONDS) -> None:
        self._database = database
        self._copies = copies
        self.wait_seconds = wait_seconds

    async def begin(
        self,
        user_id: str,
        conversation: str,
        question: str,
        request_key: str | None = None,
        waits: Callable[[], bool] = lambda: True,
    ) -> BegunTurn | KeptTurn:
        """Begin the turn and return it. Return the stored turn if this request key was used before and is answered.

        `waits` returns whether the client still waits. Raises UnknownConversationError, BusyConversationError,
        OtherRequestError and PassedTurnError.
        """
        deadline = time.monotonic() + self.wait_seconds
        pause = _FIRST_PAUSE
        while True:
            copy = await self._copies.get(conversation)
            async with self._database.transaction() as connection:
                found = await self._try(connection, user_id, conversation, question, request_key, copy, waits)
            if found is not None:
                return found
            if time.monotonic() + pause > deadline:
                raise BusyConversationError("Another turn of this conversation is running.")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def note(self, turns: Mapping[BegunTurn, str]) -> set[BegunTurn]:
        """Store what the running turns have said so far, and renew their leases.

        Returns the turns that are gone because their conversation was deleted.
        """
        gone = set()
        now = _now()
        async with self._database.transaction() as connection:
            for turn, answer in turns.items():
                running = update(CONVERSATION).where(*_holds(turn)).values(open_until=now + LEASE_MILLISECONDS)
                if (await connection.execute(running)).rowcount:
                    await connection.execute(update(TURN).where(*_is(turn)).values(answer=answer))
                else:
                    gone.add(turn)
        return gone

    async def end(self, turn: BegunTurn, answer: str, state: State) -> None:
        """Store how the turn ended and what was spoken.

        Raises UnknownConversationError if the conversation was deleted or the turn lost its lease.
        """
        now = _now()
        async with self._database.transaction() as connection:
            values = {"open_turn": None, "open_until": 0, "updated_at": _later(now)}
            closed = update(CONVERSATION).where(*_holds(turn)).values(values).returning(CONVERSATION.c.updated_at)
            if (changed := await connection.scalar(closed)) is None:
                raise UnknownConversationError("The conversation was deleted, or the turn lost its lease.")
            await connection.execute(update(TURN).where(*_is(turn)).values(answer=answer, state=state))
        said = KeptTurn(turn.id, turn.position, turn.question, answer, state, now)
        await self._copies.keep(turn.conversation_id, changed, [*turn.earlier, said])

    async def _try(
        self,
        connection: AsyncConnection,
        user_id: str,
        conversation: str,
        question: str,
        request_key: str | None,
        copy: tuple[int, list[KeptTurn]] | None,
        waits: Callable[[], bool],
    ) -> BegunTurn | KeptTurn | None:
        """Begin the turn if no other turn of the conversation runs; else return None."""
        now = _now()
        wanted = select(CONVERSATION).where(*owned(user_id, conversation)).with_for_update()
        row = (await connection.execute(wanted)).first()
        if row is None:
            raise UnknownConversationError("There is no such conversation.")
        before = await self._same(connection, row, request_key, now)
        if before is not None and before.question != question:
            raise OtherRequestError("This Idempotency-Key was already used with another message. Use a new key.")
        if before is not None and before.state == "complete":
            return before
        if before is not None and before.position < row.turns:
            raise PassedTurnError(
                "This turn was not completed, and the conversation has continued. Send the message with a new key."
            )
        if not waits():  # the client may have left while this waited for the database
            raise BusyConversationError("The client left before its turn began.")
        if row.open_turn is not None and is_running(row.open_until, now):
            return None
        left = (TURN.c.conversation_id == row.id, TURN.c.state == "open")
        await connection.execute(update(TURN).where(*left).values(state="interrupted"))
        number, position = (before.id, before.position) if before else (str(uuid4()), row.turns + 1)
        values = {
            "turns": position, "open_turn": number, "open_until": now + LEASE_MILLISECONDS,
            "updated_at": _later(now),
        }  # fmt: skip
        await connection.execute(update(CONVERSATION).where(*owned(user_id, row.id)).values(values))
        if before is not None:
            await connection.execute(update(TURN).where(TURN.c.id == number).values(answer="", state="open"))
        else:
            said = {
                "conversation_id": row.id, "position": position, "id": number, "question": question,
                "answer": "", "state": "open", "request_key": request_key, "created_at": now,
            }  # fmt: skip
            await connection.execute(insert(TURN).values(said))
        if copy is not None and copy[0] == row.updated_at and before is None:
            earlier: Sequence[KeptTurn] = copy[1]
        else:
            earlier = await self._earlier(connection, row.id, position)
        return BegunTurn(number, user_id, row.id, position, question, tuple(earlier))

    async def _same(
        self, connection: AsyncConnection, conversation: Any, request_key: str | None, now: int
    ) -> KeptTurn | None:
        """Return the turn that this request key began."""
        if request_key is None:
            return None
        wanted = select(TURN).where(TURN.c.conversation_id == conversation.id, TURN.c.request_key == request_key)
        row = (await connection.execute(wanted)).first()
        return kept(row, conversation.open_turn, conversation.open_until, now) if row else None

    async def _earlier(self, connection: AsyncConnection, conversation: str, position: int) -> Sequence[KeptTurn]:
        wanted = (
            select(TURN)
            .where(
                TURN.c.conversation_id == conversation,
                TURN.c.position < position,
                TURN.c.position >= position - MOST_TURNS,
            )
            .order_by(TURN.c.position)
        )
        return [kept(row, None, 0, 0) for row in await connection.execute(wanted)]


def _holds(turn: BegunTurn) -> tuple[Any, ...]:
    return *owned(turn.user_id, turn.conversation_id), CONVERSATION.c.open_turn == turn.id


def _is(turn: BegunTurn) -> tuple[Any, ...]:
    owner = exists().where(and_(*owned(turn.user_id, turn.conversation_id)))
    return TURN.c.conversation_id == turn.conversation_id, TURN.c.position == turn.position, owner


def _later(now: int) -> Any:
    """Return the time of a change. It is later than every change before, even if the clock was set back."""
    before = CONVERSATION.c.updated_at
    return case((before >= now, before + 1), else_=now)


def _now() -> int:
    return time.time_ns() // 1_000_000
