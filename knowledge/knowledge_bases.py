"""The table of users' knowledge bases. Each is a store of one user, and a query for a user filters by that user."""

import time
from typing import Any
from uuid import uuid4

from sqlalchemy import Select, delete, insert, select, tuple_, update

from dialgraph.storage.database import Database
from dialgraph.storage.tables.knowledge_bases import KNOWLEDGE_BASE
from dialgraph.storage.text import cleaned
from dialgraph.users.accounts.user_lock import lock_user
from knowledge.knowledge_base import KnowledgeBase, UnknownBaseError


class KnowledgeBases:
    """Reads and writes the rows of knowledge bases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, user_id: str, name: str, embedder: str) -> KnowledgeBase:
        """Create an empty knowledge base."""
        values = {
            "id": str(uuid4()), "user_id": user_id, "name": name, "embedder": embedder,
            "created_at": time.time_ns() // 1_000_000,
        }  # fmt: skip
        async with self._database.transaction() as connection:
            await lock_user(connection, user_id)
            return _base(
                (await connection.execute(insert(KNOWLEDGE_BASE).values(values).returning(KNOWLEDGE_BASE))).one()
            )

    async def get(self, user_id: str, base: str) -> KnowledgeBase:
        """Return the knowledge base with this id. Raises UnknownBaseError."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(KNOWLEDGE_BASE).where(*_owned(user_id, base)))).first()
        return _known(row)

    async def page(
        self, user_id: str, limit: int | None = None, before: tuple[int, str] | None = None
    ) -> list[KnowledgeBase]:
        """Return the user's knowledge bases, newest first.

        `before` is the `created_at` and the id of the last one on the previous page.
        """
        table = KNOWLEDGE_BASE.c
        where: list[Any] = [table.user_id == user_id, table.deleted_at.is_(None)]
        if before is not None:
            where.append(tuple_(table.created_at, table.id) < tuple_(*before))
        wanted = select(KNOWLEDGE_BASE).where(*where).order_by(table.created_at.desc(), table.id.desc()).limit(limit)
        async with self._database.reading() as connection:
            return [_base(row) for row in await connection.execute(wanted)]

    async def rename(self, user_id: str, base: str, name: str) -> KnowledgeBase:
        """Change the name. Raises UnknownBaseError."""
        changed = update(KNOWLEDGE_BASE).where(*_owned(user_id, base)).values(name=name).returning(KNOWLEDGE_BASE)
        async with self._database.transaction() as connection:
            return _known((await connection.execute(changed)).first())

    async def hide(self, user_id: str, base: str) -> KnowledgeBase:
        """Hide the knowledge base, so that nobody finds it while its content is deleted. Raises UnknownBaseError."""
        hidden = update(KNOWLEDGE_BASE).where(*_owned(user_id, base)).values(deleted_at=int(time.time()))
        async with self._database.transaction() as connection:
            return _known((await connection.execute(hidden.returning(KNOWLEDGE_BASE))).first())

    def there(self, user_id: str, base: str) -> Select[Any]:
        """Return a query that finds the knowledge base if it is not hidden.

        It locks the row, so that the knowledge base stays visible until the transaction ends.
        """
        return select(KNOWLEDGE_BASE.c.id).where(*_owned(user_id, base)).with_for_update()

    async def hidden(self, user_id: str = "") -> list[KnowledgeBase]:
        """Return the hidden knowledge bases of one user, or of all users.

        Their deletion began, and may not have finished.
        """
        where: list[Any] = [KNOWLEDGE_BASE.c.deleted_at.is_not(None)]
        if user_id:
            where.append(KNOWLEDGE_BASE.c.user_id == user_id)
        async with self._database.reading() as connection:
            rows = await connection.execute(select(KNOWLEDGE_BASE).where(*where))
            return [_base(row) for row in rows]

    async def forget(self, base: KnowledgeBase) -> None:
        """Delete the row of a hidden knowledge base."""
        gone = (KNOWLEDGE_BASE.c.id == base.id, KNOWLEDGE_BASE.c.deleted_at.is_not(None))
        async with self._database.transaction() as connection:
            await connection.execute(delete(KNOWLEDGE_BASE).where(*gone))
        await self._database.forget_old_pages()


def _owned(user_id: str, base: str) -> tuple[Any, ...]:
    table = KNOWLEDGE_BASE.c
    return table.id == cleaned(base), table.user_id == user_id, table.deleted_at.is_(None)


def _known(row: Any) -> KnowledgeBase:
    if row is None:
        raise UnknownBaseError("There is no such knowledge base.")
    return _base(row)


def _base(row: Any) -> KnowledgeBase:
    return KnowledgeBase(row.id, row.name, row.embedder, row.created_at)
