"""Exports and deletes everything that is stored of one user.

`TABLES` says for each table of the database how its rows belong to a user. A test compares it with the schema, so that
a new table without a rule fails.
"""

import logging
from collections.abc import AsyncGenerator
from typing import Any, Final

from dialgraph.storage.statement_timeout import patient
from dialgraph.users.accounts.accounts import Accounts
from dialgraph.users.accounts.users import User
from dialgraph.users.conversations.conversations import Conversations
from knowledge.knowledge_base import shown
from knowledge.knowledge_bases import KnowledgeBases
from knowledge.store import Store
from server.turns.ledger import FOR_EVER, Ledger
from server.turns.runs import Runs
from server.users.user_knowledge import UserKnowledge

TABLES: Final[dict[str, str]] = {
    "account": "the user",
    "account_session": "by user_id",
    "account_key": "by user_id",
    "call_memory": "by principal",
    "conversation": "by user_id",
    "conversation_turn": "through its conversation",
    "knowledge_base": "by user_id",
    "knowledge_store": "through its knowledge base, by name",
    "knowledge_document": "through its store",
    "knowledge_passage": "through its document",
    "knowledge_compared": "through its document",
    "knowledge_words": "through its document",
    "knowledge_term": "through its store",
    "knowledge_job": "through its store, by name",
    "usage_turn": "by user_id",
    "usage_budget": "by payer",
    "alembic_version": "nobody's",
}
log = logging.getLogger(__name__)

_AT_ONCE = 100
_USER = "user:"
GONE_SECONDS = 1.0


class UserData:
    """Exports and deletes the data of one user, from all stores."""

    def __init__(
        self,
        accounts: Accounts,
        conversations: Conversations,
        bases: KnowledgeBases,
        knowledge: UserKnowledge,
        runs: Runs,
        ledger: Ledger,
    ) -> None:
        self._accounts = accounts
        self._conversations = conversations
        self._bases = bases
        self._knowledge = knowledge
        self._runs = runs
        self._ledger = ledger

    async def export(self, user: User) -> AsyncGenerator[dict[str, Any], None]:
        """Yield everything that is stored of the user, one record at a time, without secrets."""
        yield {"kind": "account", "id": user.id, "name": user.name}
        for key in await self._accounts.keys.of_user(user.id):
            yield {"kind": "key", "id": key.id, "name": key.name, "scopes": list(key.scopes), "ending": key.ending}
        place: tuple[int, str] | None = None
        while rows := await self._ledger.of_user(user.id, 0, FOR_EVER, _AT_ONCE, place):
            for row in rows:
                place = (row.created_at, row.id)
                yield {"kind": "usage", **{str(name): value for name, value in row._mapping.items()}}
        before = None
        while page := await self._conversations.page(user.id, _AT_ONCE, before):
            for one in page:
                before = (one.created_at, one.id)
                yield {
                    "kind": "conversation", "id": one.id, "title": one.title, "graph": one.graph, "model": one.model,
                    "instructions": one.instructions, "base_url": one.base_url, "created_at": one.created_at,
                }  # fmt: skip
                async for turn in self._turns(user.id, one.id):
                    yield turn
        for base in await self._bases.page(user.id):
            yield {"kind": "knowledge_base", "id": base.id, "name": base.name, "created_at": base.created_at}
            async for document in self._documents(await self._knowledge.store(user.id, base.id), base.id):
                yield document

    async def erase(self, user_id: str) -> None:
        """Delete everything of the user. If the process is killed, the next start finishes the deletion."""
        await self._accounts.users.begin_erasing(user_id)
        self._accounts.forget(user_id)
        self._runs.end_of(_USER + user_id)
        with patient():
            await self._knowledge.delete_all(user_id)
            await self._conversations.delete_all(user_id)
            await self._ledger.forget(user_id)
            await self._accounts.users.forget(user_id)

    async def end_turns_of_the_gone(self) -> None:
        """End the running turns of users whom another process disabled or deleted."""
        users = {principal[len(_USER) :] for principal in self._runs.principals() if principal.startswith(_USER)}
        for user_id in await self._accounts.users.gone(users) if users else ():
            self._runs.end_of(_USER + user_id)

    async def go_on(self) -> None:
        """Finish the deletions that a killed process began."""
        for user_id in await self._accounts.users.being_erased():
            try:
                await self.erase(user_id)
            except Exception:
                # One failed deletion must not stop the others.
                log.exception("an account could not be deleted")

    async def _turns(self, user_id: str, conversation: str) -> AsyncGenerator[dict[str, Any], None]:
        after = 0
        while turns := await self._conversations.turns(user_id, conversation, _AT_ONCE, after):
            for turn in turns:
                after = turn.position
                yield {
                    "kind": "turn", "conversation_id": conversation, "position": turn.position,
                    "question": turn.question, "answer": turn.answer, "state": turn.state,
                    "created_at": turn.created_at,
                }  # fmt: skip

    async def _documents(self, store: Store, base: str) -> AsyncGenerator[dict[str, Any], None]:
        async for document in store.export():
            number, name = shown(document.name)
            texts = [piece.text for piece in document.pieces or ()]
            yield {"kind": "document", "id": number, "knowledge_base_id": base, "name": name, "passages": texts}
