"""The embedded store: rows and words in SQLite, vectors in FAISS. Each search reads one snapshot of the database."""

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dialgraph.environment import in_thread
from dialgraph.passages import Filter, Passage, StoreError
from knowledge.embedders.embed import Vectors
from knowledge.search.fuse import CANDIDATES, best_of, fused
from knowledge.search.query import ask, telling, units_of, unknown_prefixes
from knowledge.search.relevance import UNKNOWN, relevance
from knowledge.search.search_cache import key_of
from knowledge.search.vectors import REST, Ids, Nearby, SegmentFile
from knowledge.store import StoreConfig, checked
from knowledge.stores.external_hits import ExternalHits, with_external_hits
from knowledge.stores.rows import StoreRow, unpacked
from knowledge.stores.sql import SqlStore
from knowledge.stores.sqlite import (
    allowed_passages,
    found_by_words,
    last_passage,
    listed,
    living,
    passages_of,
    seen,
    spellings,
    store_row,
    unseen_ranges,
)
from knowledge.stores.verify import sqlite_faults

log = logging.getLogger(__name__)

_SHARE_READ = 0.12
"""See `telling`. With less, a search finds less among 100,000 passages about one subject. With more, it takes longer
and finds little more."""
FEW = 2_000
"""If a filter leaves at most this many passages, all of them are compared."""


class FaissStore(SqlStore):
    """The embedded store. Its segment of vectors in the data folder is a cache, which is built again when in doubt."""

    def __init__(self, place: StoreConfig) -> None:
        super().__init__(place)
        if place.database.engine != "sqlite":
            raise ValueError(
                f"store {place.name!r}: `faiss:` stores its rows in SQLite. Use `pgvector:` on PostgreSQL."
            )
        self._file = SegmentFile(place.folder / place.name)
        self._known: _Known | None = None
        self._building: asyncio.Task[None] | None = None

    async def search(
        self, question: str, top_k: int, only: Filter | None = None, min_score: float | None = None
    ) -> list[Passage]:
        """Search words and vectors in one snapshot of the database. Raises QueryError and StoreError."""
        text, top_k = checked(question, top_k)
        if self._known is None:
            await self.begun()
        found = await self.elsewhere(text, CANDIDATES)
        vector = await self.vector(text) if found is None else None
        try:
            passages = await self.database.read(
                lambda connection: self._search(connection, text, vector, top_k, only, found)
            )
        except sqlite3.Error as error:
            raise StoreError(f"store {self.name!r}: its rows cannot be read.") from error
        self._build_when_due()
        passages = with_external_hits(passages, found, only)
        return await best_of(passages, text, top_k, min_score, self.reranker)

    async def verify(self) -> list[str]:
        """Return the faults of rows, words and vectors. Waits until no document is being written."""
        store = await self.begun()
        if store is None:
            return []
        async with self.database.alone(self.lock):  # a document that is being written is not a fault
            store = await self.rows.store() or store
            faults = await self.database.read_apart(lambda connection: sqlite_faults(connection, store, self.name))
        if not self.suits(store):
            faults.append(
                f"store {self.name!r}: it was indexed with {store.embedder!r}, which does not match the settings."
            )
        return faults

    async def settled(self) -> None:
        """Wait until no segment is being built."""
        if self._building is not None:
            await self._building

    async def aclose(self) -> None:
        """Close the store. Finish a segment that is being built first, because a thread cannot be stopped."""
        await self.settled()
        self._known = None
        await super().aclose()

    async def _forget_index(self) -> None:
        await self.settled()
        self._file.remove()
        self._known = None

    # The following methods run in a reader's thread.

    def _search(
        self,
        connection: sqlite3.Connection,
        text: str,
        vector: Vectors | None,
        top_k: int,
        only: Filter | None,
        found: ExternalHits | None,
    ) -> list[Passage]:
        store = store_row(connection, self.name)
        if store is None or not store.passages:
            return []
        key = key_of(text, top_k, only)
        meaning = None if self.embedder.from_units else vector
        if found is None and (lately := self.recent.find(store.generation, key, meaning)) is not None:
            return lately
        allowed = allowed_passages(connection, store, only) if only else None
        if allowed is not None and not len(allowed):
            return []
        known = self._refreshed(connection, store)
        units = units_of(text)
        held = _holding(connection, store, known.held, list(units))
        alike = {prefix: spellings(connection, store, prefix) for prefix in unknown_prefixes(units, held)}
        asked, holding = ask(text, store.passages, units, held, alike)
        unseen = unseen_ranges(connection, store)
        numbers = telling(asked, holding, store.passages, _SHARE_READ)
        by_words = found_by_words(connection, store, asked, numbers, allowed, unseen)
        if not self.suits(store):
            vector = None
        near = _near(connection, known.nearby, vector, allowed, unseen) if vector is not None else None
        if found is not None:
            near = np.array([number for number in found.ours if allowed is None or number in allowed], dtype=np.int64)
        rows = living(connection, store, fused(by_words, near), max(CANDIDATES, top_k))
        likeness = None
        if vector is not None and rows:
            likeness = self.likeness(unpacked(b"".join(row.vector for row in rows)).reshape(len(rows), -1) @ vector)
        elif found is not None:
            likeness = np.array([found.ours.get(row.passage, UNKNOWN) for row in rows], dtype=np.float32)
        codes = [np.frombuffer(row.terms, dtype=np.uint32) for row in rows]
        counts = self.embedder.counts if found is None else found.counts
        scores = relevance(asked, codes, store.units / store.passages, likeness, counts)
        order = np.argsort(-scores, kind="stable")[: max(top_k, CANDIDATES if self.reranker else 0)].tolist()
        passages = passages_of(connection, {rows[at].passage: float(scores[at]) for at in order})
        self.recent.keep(store.generation, key, meaning, passages)
        return passages

    def _refreshed(self, connection: sqlite3.Connection, store: StoreRow) -> "_Known":
        """Return what is known of the store at this moment.

        Two threads find the same, so neither waits for the other.
        """
        before = self._known
        if before is not None and before.generation == store.generation:
            return before
        nearby = before.nearby if before is not None and before.embedder == store.embedder else None
        if not self.suits(store) or not self._proposes(store):
            nearby = Nearby.of(None, self.embedder.dimension)
        else:
            if nearby is None or nearby.count > 2 * store.passages + REST:
                nearby = Nearby.of(self._file.read(store.embedder, self.embedder.dimension), self.embedder.dimension)
            if nearby.last > last_passage(connection) or nearby.count > 2 * store.passages + REST:
                nearby = Nearby.of(None, self.embedder.dimension)  # from an older database, or mostly deleted passages
            rows = connection.execute(
                "SELECT v.passage_id, v.vector FROM knowledge_compared v"
                " CROSS JOIN knowledge_document d ON d.id = v.document_id"
                " WHERE d.store_id = ? AND d.live AND v.passage_id > ? ORDER BY v.passage_id",
                (store.id, nearby.last),
            ).fetchall()
            if rows:
                ids = np.array([row[0] for row in rows], dtype=np.int64)
                nearby = nearby.more(ids, unpacked(b"".join(row[1] for row in rows)).reshape(len(rows), -1))
        self._known = _Known(store.generation, store.embedder, nearby, {})
        return self._known

    def _proposes(self, store: StoreRow) -> bool:
        """Return whether vectors find candidates by themselves, and are therefore held in memory."""
        return store.passages <= self.embedder.proposes_up_to

    # The following methods run on the event loop.

    def _build_when_due(self) -> None:
        known = self._known
        if known is None or (self._building is not None and not self._building.done()):
            return
        if len(known.nearby.ids) > max(REST, known.nearby.count // 4):
            self._building = asyncio.create_task(self._build(known.nearby))

    async def _build(self, nearby: Nearby) -> None:
        try:
            segment = await in_thread(nearby.built)
            known = self._known
            if known is not None and known.nearby.last >= segment.last:
                self._known = _Known(known.generation, known.embedder, known.nearby.with_segment(segment), known.held)
            await in_thread(self._file.write, segment, self.embedder.name)
        except (OSError, RuntimeError) as error:  # such as a full disk; the segment in memory still works
            log.warning(
                "a file of vectors could not be written", extra={"store": self.name, "reason": type(error).__name__}
            )


class _Known(NamedTuple):
    """What is known of one generation of a store. Replaced as a whole, so that no reader mixes two generations."""

    generation: int
    embedder: str
    nearby: Nearby
    held: dict[int, int]
    """How many passages hold a unit, for the units that have been searched for."""


def _holding(
    connection: sqlite3.Connection, store: StoreRow, held: dict[int, int], numbers: Sequence[int]
) -> dict[int, int]:
    """Return how many passages hold each unit. The numbers are cached until the store changes."""
    if missing := [number for number in numbers if number not in held]:
        found = dict(
            connection.execute(
                "SELECT code, passages FROM knowledge_term WHERE store_id = ?"  # noqa: S608  # our own integers
                f" AND code IN ({listed(missing)}) AND passages > 0",
                (store.id,),
            )
        )
        held.update({number: found.get(number, 0) for number in missing})
    return {number: held[number] for number in numbers if held[number]}


def _near(
    connection: sqlite3.Connection,
    nearby: Nearby,
    vector: Vectors,
    allowed: Ids | None,
    unseen: Sequence[tuple[int, int]],
) -> Ids:
    """Return the nearest passages, best first.

    If a filter allows only a few, compare all of them: a graph would miss them.
    """
    if not nearby.count:
        return np.zeros(0, dtype=np.int64)
    if allowed is not None and len(allowed) <= FEW:
        rows = connection.execute(
            "SELECT passage_id, vector FROM knowledge_compared"  # noqa: S608  # our own integers
            f" WHERE passage_id IN ({listed(allowed.tolist())})"
        ).fetchall()
        ids = np.array([row[0] for row in rows], dtype=np.int64)
        similar = unpacked(b"".join(row[1] for row in rows)).reshape(len(rows), -1) @ vector
        best: Ids = ids[np.argsort(-similar, kind="stable")[:CANDIDATES]]
        return best
    ids = nearby.search(vector, CANDIDATES * (4 if unseen else 1), allowed)[0]
    return ids[seen(ids, unseen)][:CANDIDATES] if unseen else ids
