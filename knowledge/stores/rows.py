"""The rows of one store, written in short transactions. Documents arrive hidden, and become visible all together.

Every engine on a database writes through here. So with every engine, a document is there as a whole or not at all.
"""

import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dialgraph.environment import in_thread
from dialgraph.storage.database import Database
from dialgraph.storage.tables.knowledge import COMPARED, DOCUMENT, JOB, PASSAGE, STORE, TERM
from knowledge.document import Document, Piece, StoredDocument
from knowledge.embedders.embed import Vectors
from knowledge.passages.terms import WORDS
from knowledge.stores.index_rows import add_terms, bulk, forget_words, insert_compared, take_ids
from knowledge.stores.prepared import Prepared, worked_out

_PURGED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class StoreRow:
    """The row of a store."""

    id: int
    embedder: str
    words: str
    generation: int
    passages: int
    units: int


async def _nobody(ids: list[int]) -> None:
    """Do nothing: nothing is stored outside the rows."""


async def _nothing(connection: AsyncConnection) -> None:
    """Do nothing."""


class Rows:
    """One store's part of the database."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    async def store(self) -> StoreRow | None:
        """Return the row of the store; None if nothing was ever added."""
        async with self._database.transaction() as connection:
            row = (await connection.execute(select(STORE).where(STORE.c.name == self._name))).first()
        return StoreRow(row.id, row.embedder, row.words, row.generation, row.passages, row.units) if row else None

    async def create(self, embedder: str) -> StoreRow:
        """Return the row of the store, and create it if there is none. The caller must be the store's only writer."""
        if (row := await self.store()) is not None:
            return row
        values = {"name": self._name, "embedder": embedder, "words": WORDS, "generation": 0, "passages": 0, "units": 0}
        async with self._database.transaction() as connection:
            number = (await connection.execute(insert(STORE).values(values).returning(STORE.c.id))).scalar_one()
        return StoreRow(int(number), embedder, WORDS, 0, 0, 0)

    async def live(self, store: StoreRow) -> dict[str, str]:
        """Return the digest of each visible document, by its name."""
        async with self._database.transaction() as connection:
            found = await connection.execute(select(DOCUMENT.c.name, DOCUMENT.c.digest).where(*_live(store)))
            return {row.name: row.digest for row in found}

    async def known(self, store: StoreRow) -> list[StoredDocument]:
        """Return the visible documents, sorted by name."""
        async with self._database.transaction() as connection:
            rows = (await connection.execute(select(DOCUMENT).where(*_live(store)).order_by(DOCUMENT.c.name))).all()
        return [
            StoredDocument(
                row.name, row.passages, row.characters, row.language, row.media_type, row.added_at, tuple(row.tags)
            )
            for row in rows
        ]

    async def begin(self, store: StoreRow, documents: Sequence[tuple[Document, str]]) -> list[int]:
        """Insert documents that are not visible yet, each with its language. Returns their ids."""
        rows = [
            {
                "store_id": store.id, "name": document.name, "digest": document.digest, "live": False,
                "language": language, "tags": list(document.tags), "media_type": document.media_type,
                "characters": 0, "passages": 0, "units": 0, "added_at": int(time.time()),
            }
            for document, language in documents
        ]  # fmt: skip
        async with self._database.transaction() as connection:
            result = await connection.execute(
                insert(DOCUMENT).returning(DOCUMENT.c.id, sort_by_parameter_order=True), rows
            )
            return [int(row.id) for row in result]

    async def arrive(self, store: StoreRow, batch: Sequence[Prepared], *, walked: bool) -> list[int]:
        """Insert passages with their words and vectors, in one transaction. Returns their ids.

        For `walked` see `insert_compared`.
        """
        ready = await in_thread(worked_out, store.id, batch)
        async with self._database.transaction() as connection:
            ids = await take_ids(connection, len(batch))
            await bulk(connection, _INSERT_PASSAGE, map(_passage, ids, batch))
            await insert_compared(connection, list(zip(ids, ready.tokens, batch, strict=True)), walked=walked)
            await add_terms(connection, ready.terms)
            await bulk(connection, _GROW_DOCUMENT, ready.grown)
        return ids

    async def publish(
        self,
        store: StoreRow,
        arrived: Sequence[int],
        going: Sequence[str] | None,
        kept: Sequence[str] = (),
        embedder: str = "",
        also: Callable[[AsyncConnection], Awaitable[None]] = _nothing,
    ) -> int:
        """Make what arrived visible, and hide the documents named in `going` (None: all except `kept`).

        Both happen in one transaction. `also` is called in the same transaction; if it raises, nothing changes.
        `embedder`, if given, is the new embedder of the store's vectors. Returns how many documents were hidden.
        """
        named = DOCUMENT.c.name.not_in(kept) if going is None else DOCUMENT.c.name.in_(going)
        async with self._database.transaction() as connection:
            gone = await connection.execute(update(DOCUMENT).where(*_live(store), named).values(live=False))
            if arrived:
                await connection.execute(update(DOCUMENT).where(DOCUMENT.c.id.in_(arrived)).values(live=True))
            if embedder:
                values = {"embedder": embedder, "words": WORDS}
                await connection.execute(update(STORE).where(STORE.c.id == store.id).values(values))
            await _count(connection, store)
            await also(connection)
            return int(gone.rowcount)

    async def purge(self, store: StoreRow, forgetting: Callable[[list[int]], Awaitable[None]] = _nobody) -> int:
        """Delete the documents that are not visible: they were replaced or removed, or never arrived completely.

        The caller must be the store's only writer. `forgetting` is called with the ids of passages before they are
        deleted. Returns how many passages were deleted.
        """
        unseen = (DOCUMENT.c.store_id == store.id, DOCUMENT.c.live.is_(False))
        gone = 0
        dead = select(DOCUMENT.c.id).where(*unseen)
        wanted = select(COMPARED.c.passage_id, COMPARED.c.terms).where(COMPARED.c.document_id.in_(dead))
        while True:
            async with self._database.transaction() as connection:
                rows = (await connection.execute(wanted.limit(_PURGED_AT_ONCE))).all()
            if rows:
                await forgetting(
                    [int(row.passage_id) for row in rows]
                )  # outside a transaction, because other stores may be slow
            async with self._database.transaction() as connection:
                if rows:
                    held: Counter[int] = Counter()
                    words = []
                    for row in rows:
                        codes = np.frombuffer(row.terms, dtype=np.uint32)
                        words.append((int(row.passage_id), np.unique(codes[codes != 0]).tolist()))
                        held.update(words[-1][1])
                    ids = [number for number, _ in words]
                    await forget_words(connection, store.id, words, held)
                    await connection.execute(delete(COMPARED).where(COMPARED.c.passage_id.in_(ids)))
                    await connection.execute(delete(PASSAGE).where(PASSAGE.c.id.in_(ids)))
                    gone += len(rows)
                    continue
                if (await connection.execute(delete(DOCUMENT).where(*unseen))).rowcount or gone:
                    await connection.execute(delete(TERM).where(TERM.c.store_id == store.id, TERM.c.passages <= 0))
                    await _count(connection, store)
                break
        await self._database.forget_old_pages()
        return gone

    async def vectors_of(self, store: StoreRow, digests: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Return the vectors that the store already has, by the digest of the embedded text."""
        wanted = (
            select(PASSAGE.c.digest, COMPARED.c.vector)
            .join(COMPARED, COMPARED.c.passage_id == PASSAGE.c.id)
            .join(DOCUMENT, DOCUMENT.c.id == PASSAGE.c.document_id)
            .where(DOCUMENT.c.store_id == store.id, PASSAGE.c.digest.in_(digests))
        )
        async with self._database.transaction() as connection:
            return {bytes(row.digest): unpacked(row.vector) for row in await connection.execute(wanted)}

    async def forget_jobs(self, names: Sequence[str] | None) -> None:
        """Delete the jobs of these documents (None: of all) with their files.

        A job that is running stops when it next reports its progress.
        """
        which = [JOB.c.store == self._name] + ([] if names is None else [JOB.c.document.in_(names)])
        async with self._database.transaction() as connection:
            gone = await connection.execute(delete(JOB).where(*which))
        if gone.rowcount:
            await self._database.forget_old_pages()

    async def forget(self, store: StoreRow) -> None:
        """Delete the store's row. Nothing else of the store may be left."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(TERM).where(TERM.c.store_id == store.id))
            await connection.execute(delete(STORE).where(STORE.c.id == store.id))

    async def forget_empty(self) -> None:
        """Delete the store's row if it holds no document."""
        empty = (STORE.c.name == self._name, ~exists().where(DOCUMENT.c.store_id == STORE.c.id))
        async with self._database.transaction() as connection:
            await connection.execute(delete(TERM).where(TERM.c.store_id.in_(select(STORE.c.id).where(*empty))))
            await connection.execute(delete(STORE).where(*empty))

    async def pieces(self, store: StoreRow) -> AsyncGenerator[tuple[StoredDocument, str, list[Piece]], None]:
        """Yield each visible document with its digest and its pieces, one document at a time."""
        digests = await self.live(store)
        for known in await self.known(store):
            wanted = (
                select(PASSAGE)
                .join(DOCUMENT, DOCUMENT.c.id == PASSAGE.c.document_id)
                .where(*_live(store), DOCUMENT.c.name == known.name)
                .order_by(PASSAGE.c.position)
            )
            async with self._database.transaction() as connection:
                rows = (await connection.execute(wanted)).all()
            yield (
                known,
                digests.get(known.name, ""),
                [Piece(row.text, row.heading, row.page, row.start, row.end) for row in rows],
            )


def unpacked(data: bytes) -> Vectors:
    """Return a stored vector as float32."""
    return np.frombuffer(data, dtype=np.float16).astype(np.float32)


_INSERT_PASSAGE = (
    'INSERT INTO knowledge_passage (id, document_id, position, heading, text, page, start, "end", digest)'
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_GROW_DOCUMENT = "UPDATE knowledge_document SET passages = passages + ?, units = units + ?, characters = ? WHERE id = ?"


def _passage(number: int, prepared: Prepared) -> tuple[Any, ...]:
    piece = prepared.piece
    return (
        number, prepared.document, prepared.position, piece.heading, piece.text, piece.page, piece.start, piece.end,
        prepared.digest,
    )  # fmt: skip


def _live(store: StoreRow) -> list[Any]:
    return [DOCUMENT.c.store_id == store.id, DOCUMENT.c.live.is_(True)]


async def _count(connection: AsyncConnection, store: StoreRow) -> None:
    """Write the sums over the visible documents into the store's row.

    Its generation grows, which shows every process that something changed.
    """
    sums = [func.coalesce(func.sum(column), 0) for column in (DOCUMENT.c.passages, DOCUMENT.c.units)]
    passages, units = (await connection.execute(select(*sums).where(*_live(store)))).one()
    values = {"passages": passages, "units": units, "generation": STORE.c.generation + 1}
    await connection.execute(update(STORE).where(STORE.c.id == store.id).values(values))
