"""The store for several servers: rows, words and vectors in PostgreSQL with pgvector.

Apart from a cache of recent searches, it keeps nothing in memory between searches.
"""

import asyncio
from collections.abc import Sequence

import numpy as np
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from dialgraph.passages import Filter, Passage, StoreError
from dialgraph.storage.errors import DatabaseAwayError
from dialgraph.storage.tables.knowledge import pgvector_is_there, prepare_search
from knowledge.embedders.embed import Vectors
from knowledge.passages.terms import token
from knowledge.search.fuse import CANDIDATES, best_of, fused, heaviest, summed
from knowledge.search.query import ALIKE_MOST, Spelling, ask, telling, units_of, unknown_prefixes, words_from
from knowledge.search.relevance import UNKNOWN, Query, relevance
from knowledge.search.search_cache import key_of
from knowledge.search.vectors import Ids
from knowledge.store import StoreConfig, checked
from knowledge.stores.external_hits import ExternalHits, with_external_hits
from knowledge.stores.index_rows import written
from knowledge.stores.prepared import Prepared
from knowledge.stores.rows import StoreRow, unpacked
from knowledge.stores.sql import SqlStore
from knowledge.stores.verify import postgres_faults

_MOST_DIMENSIONS = 2_000
"""The most that an HNSW index of pgvector accepts. Longer vectors are compared one by one."""


_SHARE_READ = 0.06
"""See `telling`. To read a row takes a microsecond in PostgreSQL, and a tenth of that in SQLite's index."""


class PgvectorStore(SqlStore):
    """The store in PostgreSQL. `pgvector:` is the project's own database, `database_url`."""

    def __init__(self, place: StoreConfig) -> None:
        super().__init__(place)
        if place.database.engine != "postgresql":
            raise ValueError(
                f"store {place.name!r}: `pgvector:` needs `database_url` to be a `postgresql://…` address."
            )
        self._preparing = asyncio.Lock()
        self._prepared = False
        self._known_to_be = False
        self._indexed = False

    async def search(
        self, question: str, top_k: int, only: Filter | None = None, min_score: float | None = None
    ) -> list[Passage]:
        """Search words and vectors in one snapshot of the database. Raises QueryError and StoreError."""
        asked_for, top_k = checked(question, top_k)
        try:
            if not self._known_to_be:
                await self.begun()
                self._known_to_be = True
            found = await self.elsewhere(asked_for, CANDIDATES)
            vector = await self.vector(asked_for) if found is None else None
            async with self.database.snapshot() as connection:
                passages = await self._search(connection, asked_for, vector, top_k, only, found)
        except (DBAPIError, DatabaseAwayError) as error:
            raise StoreError(f"store {self.name!r}: its rows cannot be read.") from error
        passages = with_external_hits(passages, found, only)
        return await best_of(passages, asked_for, top_k, min_score, self.reranker)

    async def verify(self) -> list[str]:
        """Return the faults of rows, words and vectors. Waits until no document is being written."""
        if (store := await self.begun()) is None:
            return []
        async with self.database.alone(self.lock):  # a document that is being written is not a fault
            store = await self.rows.store() or store
            async with self.database.snapshot() as connection:
                return await postgres_faults(connection, store, self.name, walked=not self.embedder.from_units)

    async def ready(self) -> None:
        """Create what searches need, if the migration could not because pgvector was missing. Raises StoreError."""
        if self._prepared:
            return
        async with self._preparing:
            if self._prepared:
                return
            async with self.database.transaction() as connection:
                there = await connection.scalar(text("SELECT to_regclass('knowledge_words_found')"))
            if there is None:  # altering a table waits for all its readers, so only if needed
                async with self.database.alone("knowledge-search"), self.database.transaction() as connection:
                    if not await connection.run_sync(pgvector_is_there):
                        raise StoreError(
                            f"store {self.name!r}: this PostgreSQL lacks the extension `vector` (pgvector)."
                        )
                    await connection.run_sync(prepare_search)
            self._prepared = True

    async def arrived(self, ids: list[int], batch: list[Prepared]) -> None:
        """Create the index of vectors, once. The dimension is known only after the embedder's first vector."""
        dimension = self.embedder.dimension
        if self._indexed or self.embedder.from_units or not 0 < dimension <= _MOST_DIMENSIONS:
            return
        async with self.database.transaction() as connection:
            name = f"knowledge_compared_near_{dimension}"
            if await connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
                await connection.execute(text(_INDEX.format(dimension)))
        self._indexed = True

    async def _search(
        self,
        connection: AsyncConnection,
        question: str,
        vector: Vectors | None,
        top_k: int,
        only: Filter | None,
        elsewhere: ExternalHits | None,
    ) -> list[Passage]:
        row = (await connection.execute(_STORE, {"name": self.name})).first()
        if row is None or not row.passages:
            return []
        store = StoreRow(*row[:6])
        key = key_of(question, top_k, only)
        meaning = None if self.embedder.from_units else vector
        if elsewhere is None and (known := self.recent.find(store.generation, key, meaning)) is not None:
            return known
        allowed = await _documents(connection, store, only) if only else None
        if allowed == []:
            return []
        units = units_of(question)
        found = await connection.execute(_TERMS, {"store": store.id, "codes": list(units)})
        held = {int(term.code): int(term.passages) for term in found}
        alike = {prefix: await _spellings(connection, store, prefix) for prefix in unknown_prefixes(units, held)}
        asked, holding = ask(question, store.passages, units, held, alike)
        numbers = telling(asked, holding, store.passages, _SHARE_READ)
        by_words = await _found_by_words(connection, store, asked, numbers, row.unseen, allowed)
        near = None
        if not self.suits(store):
            vector = None
        if vector is not None and not self.embedder.from_units:
            near = await self._near(connection, store, vector, allowed)
        if elsewhere is not None:
            near = np.array(list(elsewhere.ours), dtype=np.int64)
        ids = fused(by_words, near)[: max(CANDIDATES, top_k)]
        parameters = {"ids": ids, "store": store.id, "allowed": allowed}
        compared = {part.passage_id: part for part in await connection.execute(_COMPARED, parameters)}
        rows = [compared[number] for number in ids if number in compared]
        likeness = None
        if vector is not None and rows:
            vectors = unpacked(b"".join(bytes(part.vector) for part in rows)).reshape(len(rows), -1)
            likeness = self.likeness(vectors @ vector)
        elif elsewhere is not None:
            likeness = np.array([elsewhere.ours.get(part.passage_id, UNKNOWN) for part in rows], dtype=np.float32)
        codes = [np.frombuffer(part.terms, dtype=np.uint32) for part in rows]
        counts = self.embedder.counts if elsewhere is None else elsewhere.counts
        scores = relevance(asked, codes, store.units / store.passages, likeness, counts)
        order = np.argsort(-scores, kind="stable")[: max(top_k, CANDIDATES if self.reranker else 0)].tolist()
        passages = await _passages(connection, {rows[at].passage_id: float(scores[at]) for at in order})
        self.recent.keep(store.generation, key, meaning, passages)
        return passages

    async def _near(
        self, connection: AsyncConnection, store: StoreRow, vector: Vectors, allowed: Sequence[int] | None
    ) -> Ids:
        """Return the passages of this store that are nearest to the question, best first."""
        dimension = self.embedder.dimension
        parameters = {"vector": written(vector), "most": CANDIDATES, "store": store.id, "dimension": dimension}
        statement = _NEAR.format(dimension, " AND c.document_id = ANY(:allowed)" if allowed is not None else "")
        rows = await connection.execute(text(statement), {**parameters, "allowed": allowed})
        return np.array([row.passage_id for row in rows], dtype=np.int64)


_INDEX = (
    "CREATE INDEX IF NOT EXISTS knowledge_compared_near_{0} ON knowledge_compared"
    " USING hnsw ((embedding::vector({0})) vector_ip_ops) WHERE vector_dims(embedding) = {0}"
)
_NEAR = (
    "SELECT c.passage_id FROM knowledge_compared c JOIN knowledge_document d ON d.id = c.document_id"
    " WHERE d.store_id = :store AND d.live AND vector_dims(c.embedding) = :dimension{1}"
    " ORDER BY c.embedding::vector({0}) <#> CAST(:vector AS vector) LIMIT :most"
)
# PostgreSQL cannot know how rare a bound word is: it would read the whole table, or plan for just any words.
# Below, one subquery for each row stops it from reading every document to find the few passages that are named.
_STORE = text(
    "SELECT id, embedder, words, generation, passages, units, set_config('enable_seqscan', 'off', true),"
    " set_config('plan_cache_mode', 'force_custom_plan', true),"
    " set_config('hnsw.iterative_scan', 'strict_order', true),"
    " ARRAY(SELECT d.id FROM knowledge_document d WHERE d.store_id = s.id AND NOT d.live"
    " ORDER BY d.passages DESC LIMIT 200) AS unseen"
    " FROM knowledge_store s WHERE name = :name"
)
_TERMS = text(
    "SELECT code, passages FROM knowledge_term WHERE store_id = :store AND code = ANY(:codes) AND passages > 0"
)
_SPELLINGS = text(
    "SELECT term, code, passages FROM knowledge_term WHERE store_id = :store AND term >= :prefix AND term < :end"
    " AND passages > 0 LIMIT :most"
)
_HOLDING = text(
    "SELECT t.weight, (SELECT array_agg(passage_id) FROM knowledge_words WHERE words @@ CAST(t.token AS tsquery)"
    " AND document_id <> ALL(CAST(:unseen AS bigint[]))"
    " AND (CAST(:allowed AS bigint[]) IS NULL OR document_id = ANY(CAST(:allowed AS bigint[])))) AS ids"
    " FROM unnest(CAST(:tokens AS text[]), CAST(:weights AS float8[])) AS t(token, weight)"
)
_COMPARED = text(
    "SELECT c.passage_id, c.terms, c.vector FROM knowledge_compared c WHERE c.passage_id = ANY(:ids)"
    " AND (SELECT d.live AND d.store_id = :store FROM knowledge_document d WHERE d.id = c.document_id)"
    " AND (CAST(:allowed AS bigint[]) IS NULL OR c.document_id = ANY(CAST(:allowed AS bigint[])))"
)
_PASSAGES = text(
    'SELECT p.id, p.text, p.heading, p.page, p.start, p."end",'
    " (SELECT d.name FROM knowledge_document d WHERE d.id = p.document_id)"
    " FROM knowledge_passage p WHERE p.id = ANY(:ids)"
)
_DOCUMENTS = text("SELECT id, name, language, tags FROM knowledge_document WHERE store_id = :store AND live")


async def _documents(connection: AsyncConnection, store: StoreRow, only: Filter) -> list[int]:
    """Return the ids of the documents that may answer."""
    return [
        row.id
        for row in await connection.execute(_DOCUMENTS, {"store": store.id})
        if (not only.documents or row.name in only.documents)
        and (not only.language or row.language == only.language)
        and set(only.tags) <= set(row.tags)
    ]


async def _spellings(connection: AsyncConnection, store: StoreRow, prefix: str) -> list[Spelling]:
    first, end = words_from(prefix)
    parameters = {"store": store.id, "prefix": first, "end": end, "most": ALIKE_MOST}
    return [Spelling(row.term, row.code, row.passages) for row in await connection.execute(_SPELLINGS, parameters)]


async def _found_by_words(
    connection: AsyncConnection,
    store: StoreRow,
    asked: Query,
    numbers: Sequence[int],
    unseen: Sequence[int],
    allowed: Sequence[int] | None,
) -> Ids:
    """Return the visible passages that hold these units, heaviest first."""
    if not numbers:
        return np.zeros(0, dtype=np.int64)
    parameters = {
        "tokens": [token(store.id, number) for number in numbers],
        "weights": [asked.weights[number] for number in numbers],
        "unseen": unseen,
        "allowed": allowed,
    }
    rows = await connection.execute(_HOLDING, parameters)
    return heaviest(*summed([(row.weight, np.array(row.ids or (), dtype=np.int64)) for row in rows]))


async def _passages(connection: AsyncConnection, scores: dict[int, float]) -> list[Passage]:
    """Return the passages in the order of the scores."""
    rows = await connection.execute(_PASSAGES, {"ids": list(scores)})
    found = {
        row.id: Passage(row.text, row.name, row.heading, scores[row.id], row.page, row.start, row.end) for row in rows
    }
    return [found[number] for number in scores]
