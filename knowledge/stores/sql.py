"""Everything but the search, for all stores on a database."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from contextlib import asynccontextmanager
from zlib import crc32

import numpy as np

from dialgraph.environment import in_thread
from dialgraph.language.focus import focus
from dialgraph.passages import StoreError
from dialgraph.storage.text import cleaned
from dialgraph.tasks import to_the_end
from knowledge.document import BASE_STORE_NAME, Document, EmptyDocumentError, Piece, Stats, StoredDocument, checked_name
from knowledge.embedders.embed import EmbedError, Vectors
from knowledge.files import read_texts
from knowledge.passages.analyse import AnalysedPiece, analysed_pieces, unit_vectors
from knowledge.passages.chunk import pieces_of
from knowledge.passages.terms import WORDS
from knowledge.search.search_cache import SearchCache
from knowledge.store import Also, StoreConfig, ignore_progress, nothing_else
from knowledge.stores.document_writer import DocumentWriter
from knowledge.stores.external_hits import ExternalHits
from knowledge.stores.prepared import Prepared
from knowledge.stores.rows import Rows, StoreRow

log = logging.getLogger(__name__)

_INLINE_CHARACTERS = 20_000
_BASE_LOCKS = 64
_INLINE = 8
"""The most pieces that are analysed on the event loop: about two milliseconds."""


class SqlStore:
    """Writes and lists documents. There is one writer at a time, over all processes. Readers never wait."""

    def __init__(self, place: StoreConfig) -> None:
        self.name = place.name
        self.database = place.database
        self.embedder = place.embedder
        self.reranker = place.reranker
        self.rows = Rows(place.database, place.name)
        self._sample = place.sample
        # Users create and delete knowledge bases. With a lock for each of them, every deletion would leave a lock.
        base = BASE_STORE_NAME.fullmatch(place.name)
        self.lock = f"knowledge-bases-{crc32(base[1].encode()) % _BASE_LOCKS}" if base else f"knowledge-{place.name}"
        self.recent = SearchCache()
        self._beginning = asyncio.Lock()

    async def add(self, documents: Sequence[Document], progress: Callable[[int], None] = ignore_progress) -> int:
        """Add the documents, all or none."""
        return await self._take_in(documents, False, progress)

    async def replace(self, documents: Sequence[Document], progress: Callable[[int], None] = ignore_progress) -> int:
        """Add the documents, and remove all others at the same moment."""
        return await self._take_in(documents, True, progress)

    async def remove(self, names: Sequence[str]) -> int:
        """Delete the documents with these names, and their jobs. Returns how many there were."""
        await self.begun()
        async with self.database.alone(self.lock):
            if (store := await self.rows.store()) is None:
                return 0
            await self.rows.forget_jobs(names)
            gone = await self.rows.publish(store, [], names)
            await self._purge(store)
        return gone

    async def forget(self) -> None:
        """Delete everything in the store, including its row."""
        await self.rows.forget_jobs(None)
        async with self.database.alone(self.lock):
            if (store := await self.rows.store()) is not None:
                await self.rows.publish(store, [], None)
                await self._purge(store)
                await self._forget_index()
                await self.rows.forget(store)

    async def answers(self) -> bool:
        """Return whether the database can be read now."""
        return await self.database.answers()

    async def documents(self) -> list[StoredDocument]:
        """Return the visible documents, sorted by name."""
        store = await self.begun()
        return await self.rows.known(store) if store else []

    async def stats(self) -> Stats:
        """Return how much the store holds. A store without a row is empty."""
        store = await self.begun()
        if store is None:
            return Stats(0, 0, 0, self.embedder.name)
        return Stats(len(await self.rows.live(store)), store.passages, store.generation, store.embedder)

    async def export(self) -> AsyncGenerator[Document, None]:
        """Yield every visible document with its pieces."""
        if (store := await self.begun()) is not None:
            async for known, digest, pieces in self.rows.pieces(store):
                yield Document(
                    known.name,
                    pieces=tuple(pieces),
                    tags=known.tags,
                    media_type=known.media_type,
                    known_digest=digest,
                )

    async def rebuild(self, progress: Callable[[int], None] = ignore_progress) -> int:
        """Write a second version of each document, then replace all first versions at one moment.

        Returns the number of passages.
        """
        async with self.database.alone(self.lock):
            if (store := await self.rows.store()) is None:
                return 0
            await self._purge(store)
            await self._forget_index()
            try:
                arrival = DocumentWriter(self.rows, store, self.embedder, progress, self.arrived, anew=True)
                async for document in self.export():
                    await arrival.take(document, self._batches(document))
                return await arrival.publish(None)
            finally:
                await self._purge(store)

    async def begun(self) -> StoreRow | None:
        """Return the store's row. A new store adds its sample documents first."""
        await self.ready()
        row = await self.rows.store()
        if row is None and self._sample is not None:
            async with self._beginning:
                row = await self.rows.store()
                if row is None:
                    await self.add(await in_thread(read_texts, self._sample))
                    row = await self.rows.store()
        return row

    def suits(self, store: StoreRow) -> bool:
        """Return whether the store's vectors are from the embedder of the settings, and its words from this version."""
        return store.embedder == self.embedder.name and store.words == WORDS

    async def vector(self, question: str) -> Vectors | None:
        """Return the question's vector; None if the embedder failed: then the search continues with words only."""
        try:
            return await self.embedder.question(focus(question))
        except EmbedError as error:
            log.warning(
                "an embedder failed; the search continued with words only",
                extra={"store": self.name, "reason": str(error)},
            )
            return None

    async def ready(self) -> None:
        """Create what an engine needs in addition to the tables, once."""

    def likeness(self, similar: Vectors) -> Vectors:
        """Return the likeness, 0 to 1. The usual similarity of texts about different things becomes 0."""
        unrelated = self.embedder.unrelated
        likeness: Vectors = np.clip((similar - unrelated) / (1 - unrelated), 0, 1)
        return likeness

    async def aclose(self) -> None:
        """Close the embedder and the reranker."""
        await self.embedder.aclose()
        if self.reranker is not None:
            await self.reranker.aclose()

    async def arrived(self, ids: list[int], batch: list[Prepared]) -> None:
        """Handle passages that have just been written. For an engine that stores something elsewhere."""

    async def forgetting(self, ids: list[int]) -> None:
        """Handle passages that will be deleted. For an engine that stores something elsewhere."""

    async def elsewhere(self, question: str, most: int) -> ExternalHits | None:
        """Return what another store finds near the question; None if the vectors are in our rows."""
        return None

    async def _forget_index(self) -> None:
        """Delete what an engine has built from the rows, if it has built anything."""

    async def holds(self, document: Document) -> bool:
        """Return whether exactly this content is stored under this name."""
        store = await self.rows.store()
        return store is not None and (await self.rows.live(store)).get(document.name) == document.digest

    async def take(
        self,
        document: Document,
        batches: AsyncIterable[Sequence[AnalysedPiece]],
        also: Also = nothing_else,
    ) -> int:
        """Add one document whose pieces are still being read. If reading fails, nothing of it is stored."""
        async with self._alone() as store:
            arrival = DocumentWriter(self.rows, store, self.embedder, ignore_progress, self.arrived)
            if not await arrival.take(document, batches):
                raise EmptyDocumentError(f"store {self.name!r}: document {document.name!r} holds no text.")
            return await arrival.publish([document.name], also=also)

    async def _purge(self, store: StoreRow) -> None:
        """Delete what is not visible, even if cancelled. After that another writer may begin."""
        await to_the_end(self.rows.purge(store, self.forgetting))

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[StoreRow, None]:
        """Yield the store to its only writer. At the end, delete what did not become visible."""
        await self.ready()
        async with self.database.alone(self.lock):
            new = await self.rows.store() is None
            try:
                store = await self.rows.create(self.embedder.name)
                if not self.suits(store):
                    raise StoreError(
                        f"store {self.name!r} was indexed with {store.embedder!r} and {store.words!r}; this server uses"
                        f" {self.embedder.name!r} and {WORDS!r}. Run `dialgraph knowledge rebuild --store {self.name}`."
                    )
                await self._purge(store)  # what a killed writer left
                yield store
            except BaseException:
                await to_the_end(self._sweep(new))
                raise
            await self._purge(store)

    async def _sweep(self, new: bool) -> None:
        """Delete what a failed change left.

        Also delete the row of a new store, which would otherwise stay although nobody asks for the store again.
        """
        if (store := await self.rows.store()) is not None:
            await self.rows.purge(store, self.forgetting)
            if new:
                await self.rows.forget_empty()

    async def _take_in(self, documents: Sequence[Document], alone: bool, progress: Callable[[int], None]) -> int:
        names = [checked_name(document.name) for document in documents]
        if len(set(names)) < len(names):
            twice = min(name for name, count in Counter(names).items() if count > 1)
            raise StoreError(f"store {self.name!r}: two documents are named {twice!r}.")
        async with self._alone() as store:
            live = await self.rows.live(store)
            fresh = [document for document in documents if live.get(document.name) != document.digest]
            if fresh or (alone and len(live) > len(documents)):
                arrival = DocumentWriter(self.rows, store, self.embedder, progress, self.arrived)
                for document in fresh:
                    await arrival.take(document, self._batches(document))
                new = {document.name for document in fresh}
                kept = [name for name in names if name not in new]
                await arrival.publish(None if alone else [document.name for document in fresh], kept)
            counts = {known.name: known.passages for known in await self.rows.known(store)}
            return sum(counts[name] for name in names)

    async def _batches(self, document: Document) -> AsyncGenerator[Sequence[AnalysedPiece], None]:
        pieces: Sequence[Piece] | None = document.pieces
        if pieces is None:
            text = cleaned(document.text)
            pieces = pieces_of(text) if len(text) < _INLINE_CHARACTERS else await in_thread(pieces_of, text)
        if not pieces:
            raise EmptyDocumentError(f"store {self.name!r}: document {document.name!r} holds no text.")
        batches = analysed_pieces(pieces, unit_vectors(self.embedder.from_units))
        # A few pieces are analysed here. More of them would delay every call, so a thread does it.
        while batch := await in_thread(next, batches, None) if len(pieces) > _INLINE else next(batches, None):
            yield batch
