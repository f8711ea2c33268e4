"""The rows of conversations. Each query names the user, so nobody finds the conversations of another user."""

import secrets
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from sqlalchemy import and_, delete, exists, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from dialgraph.storage.call_memory import TABLE as CALL_MEMORY
from dialgraph.storage.database import Database
from dialgraph.storage.tables.conversations import CONVERSATION, TURN
from dialgraph.storage.text import cleaned
from dialgraph.users.accounts.encryption import Encryption, EncryptionError
from dialgraph.users.accounts.user_lock import lock_user
from dialgraph.users.conversations.copies import ConversationCache
from dialgraph.users.conversations.values import Conversation, KeptTurn, UnknownConversationError

LARGEST_NUMBER = 2**53 - 1
"""The largest integer that JavaScript represents exactly."""
_TRIES = 8


class Conversations:
    """The conversations in one database."""

    def __init__(self, database: Database, sealed: Encryption, copies: ConversationCache) -> None:
        self._database = database
        self._sealed = sealed
        self._copies = copies

    async def create(
        self,
        user_id: str,
        *,
        title: str = "",
        graph: str,
        model: str = "",
        instructions: str = "",
        base_url: str = "",
        api_key: str = "",
    ) -> Conversation:
        """Create a conversation. The key is stored encrypted and is not shown."""
        number = str(uuid4())
        now = time.time_ns() // 1_000_000
        values = {
            "id": number, "user_id": user_id, "title": title, "graph": graph, "model": model,
            "instructions": instructions, "base_url": base_url, "turns": 0, "open_until": 0,
            "api_key": self._sealed.seal(api_key, number) if api_key else None, "created_at": now, "updated_at": now,
        }  # fmt: skip
        for _ in range(_TRIES):
            values["number"] = 1 + secrets.randbelow(LARGEST_NUMBER)
            try:
                async with self._database.transaction() as connection:
                    await lock_user(connection, user_id)
                    row = (await connection.execute(insert(CONVERSATION).values(values).returning(CONVERSATION))).one()
                return _conversation(row)
            except IntegrityError as error:  # the number is taken
                failure = error
        raise failure

    async def get(self, user_id: str, conversation: str | int) -> Conversation:
        """Return the conversation with this id or number. Raises UnknownConversationError."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(CONVERSATION).where(*owned(user_id, conversation)))).first()
        if row is None:
            raise UnknownConversationError("There is no such conversation.")
        return _conversation(row)

    async def page(
        self, user_id: str, limit: int | None, before: tuple[int, str] | None = None, search: str = ""
    ) -> list[Conversation]:
        """Return the user's conversations, newest first, starting after the one with the time and id of `before`."""
        where: list[Any] = [CONVERSATION.c.user_id == user_id]
        order = tuple_(CONVERSATION.c.created_at, CONVERSATION.c.id)
        if before is not None:
            where.append(order < tuple_(*before))
        if search:
            said = or_(
                TURN.c.question.icontains(search, autoescape=True), TURN.c.answer.icontains(search, autoescape=True)
            )
            told = exists().where(and_(TURN.c.conversation_id == CONVERSATION.c.id, said))
            where.append(or_(CONVERSATION.c.title.icontains(search, autoescape=True), told))
        wanted = select(CONVERSATION).where(*where)
        wanted = wanted.order_by(CONVERSATION.c.created_at.desc(), CONVERSATION.c.id.desc()).limit(limit)
        async with self._database.reading() as connection:
            return [_conversation(row) for row in await connection.execute(wanted)]

    async def change(self, user_id: str, conversation: str, values: Mapping[str, object]) -> Conversation:
        """Set columns of the conversation: title, graph, model, instructions. Raises UnknownConversationError."""
        changed = (
            update(CONVERSATION)
            .where(*owned(user_id, conversation))
            .values(**values, updated_at=time.time_ns() // 1_000_000)
            .returning(CONVERSATION)
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(changed)).first()
        if row is None:
            raise UnknownConversationError("There is no such conversation.")
        return _conversation(row)

    async def delete(self, user_id: str, conversation: str | int) -> None:
        """Delete the conversation and its turns. A running turn ends. Raises UnknownConversationError."""
        async with self._database.transaction() as connection:
            # Lock first, so that no turn begins during the deletion.
            row = await connection.scalar(
                select(CONVERSATION.c.id).where(*owned(user_id, conversation)).with_for_update()
            )
            if row is None:
                raise UnknownConversationError("There is no such conversation.")
            await connection.execute(delete(TURN).where(TURN.c.conversation_id == row))
            await connection.execute(delete(CONVERSATION).where(CONVERSATION.c.id == row, *owned(user_id, row)))
            await connection.execute(delete(CALL_MEMORY).where(*_remembered(user_id), CALL_MEMORY.c.call_id == row))
        await self._copies.forget(row)
        await self._database.forget_old_pages()

    async def delete_all(self, user_id: str) -> None:
        """Delete every conversation of the user."""
        own = select(CONVERSATION.c.id).where(CONVERSATION.c.user_id == user_id)
        async with self._database.transaction() as connection:
            # Lock first, and in the same order as turns do: with another order there could be a deadlock.
            held = list(await connection.scalars(own.order_by(CONVERSATION.c.id).with_for_update()))
            await connection.execute(delete(TURN).where(TURN.c.conversation_id.in_(own)))
            await connection.execute(delete(CONVERSATION).where(CONVERSATION.c.user_id == user_id))
            await connection.execute(delete(CALL_MEMORY).where(*_remembered(user_id)))
        for conversation in held:
            await self._copies.forget(conversation)
        await self._database.forget_old_pages()

    async def turns(
        self, user_id: str, conversation: str | int, limit: int | None = None, after: int = 0
    ) -> list[KeptTurn]:
        """Return the turns after the position `after`, in order; none if the conversation is unknown."""
        now = time.time_ns() // 1_000_000
        wanted = (
            select(TURN, CONVERSATION.c.open_turn, CONVERSATION.c.open_until)
            .join(CONVERSATION, CONVERSATION.c.id == TURN.c.conversation_id)
            .where(*owned(user_id, conversation), TURN.c.position > after)
            .order_by(TURN.c.position)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [kept(row, row.open_turn, row.open_until, now) for row in await connection.execute(wanted)]

    async def rotate(self) -> tuple[int, int]:
        """Encrypt every key with the newest encryption key. Returns how many changed and how many are unreadable."""
        sealed = select(CONVERSATION.c.id, CONVERSATION.c.api_key).where(CONVERSATION.c.api_key.is_not(None))
        async with self._database.reading() as connection:
            rows = [(row.id, bytes(row.api_key)) for row in await connection.execute(sealed)]
        changed = unread = 0
        for number, old in rows:
            if not self._sealed.is_newest(old):
                try:
                    new = self._sealed.seal(self._sealed.open(old, number), number)
                except EncryptionError:
                    unread += 1
                    continue
                same = (CONVERSATION.c.id == number, CONVERSATION.c.api_key == old)
                async with self._database.transaction() as connection:
                    await connection.execute(update(CONVERSATION).where(*same).values(api_key=new))
                changed += 1
        await self._database.forget_old_pages()
        return changed, unread

    def key_of(self, conversation: Conversation) -> str:
        """Return the user's own key for the upstream; empty if there is none. Raises EncryptionError."""
        return self._sealed.open(conversation.sealed_key, conversation.id) if conversation.sealed_key else ""


def _remembered(user_id: str) -> tuple[Any, ...]:
    """Return the condition for the user's rows in the call memory. A conversation's id is also its call id."""
    return (CALL_MEMORY.c.principal == f"user:{user_id}",)


def owned(user_id: str, conversation: str | int) -> tuple[Any, ...]:
    """Return the conditions for this conversation of this user."""
    named = CONVERSATION.c.id == cleaned(str(conversation))
    if isinstance(conversation, int):
        named = CONVERSATION.c.number == conversation
    return named, CONVERSATION.c.user_id == user_id


def kept(row: Any, open_turn: str | None, open_until: int, now: int) -> KeptTurn:
    """Return the turn of a row. An open turn that no server runs any more counts as interrupted."""
    state = row.state
    if state == "open" and not (open_turn == row.id and is_running(open_until, now)):
        state = "interrupted"
    return KeptTurn(row.id, row.position, row.question, row.answer, state, row.created_at)


LEASE_MILLISECONDS = 4_000
"""How long a running turn blocks the next one if its server does not renew the lease."""


def is_running(open_until: int, now: int) -> bool:
    """Return whether a turn's server is alive. A time too far in the future was written with another clock."""
    return now <= open_until <= now + 2 * LEASE_MILLISECONDS


def _conversation(row: Any) -> Conversation:
    return Conversation(
        row.id, row.number, row.title, row.graph, row.model, row.instructions, row.base_url, row.turns,
        row.created_at, row.updated_at, bytes(row.api_key) if row.api_key else None,
    )  # fmt: skip
