"""What the stores on a database have in common: everything but the search."""

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
from knowledge.document import BASE_STORE_NAME, Document, EmptyDocumentError, Piece, Stats, StoredDocument, checked_name
from knowledge.embedders.embed import EmbedError, Vectors
from knowledge.files import read_texts
from knowledge.passages.analyse import AnalysedPiece, analysed_pieces
from knowledge.passages.chunk import pieces_of
from knowledge.passages.terms import WORDS
from knowledge.search.search_cache import SearchCache
from knowledge.store import Also, StoreConfig, ignore_progress, nothing_else
from knowledge.stores.document_writer import DocumentWriter
from knowledge.stores.external_hits import ExternalHits
from knowledge.stores.prepared import Prepared
from knowledge.stores.rows import Rows, StoreRow
from knowledge.stores.tasks import to_the_end

log = logging.getLogger(__name__)

_INLINE_CHARACTERS = 20_000
_BASE_LOCKS = 64
_INLINE = 8
"""Pieces that are analysed on the event loop: about two milliseconds."""


class SqlStore:
    """Writes and lists. One writer at a time, of all processes; readers wait for nobody."""

    def __init__(self, place: StoreConfig) -> None:
        self.name = place.name
        self.database = place.database
        self.embedder = place.embedder
        self.reranker = place.reranker
        self.rows = Rows(place.database, place.name)
        self._sample = place.sample
        # Users make and delete bases: a lock each would be left behind each time.
        base = BASE_STORE_NAME.fullmatch(place.name)
        self.lock = f"knowledge-bases-{crc32(base[1].encode()) % _BASE_LOCKS}" if base else f"knowledge-{place.name}"
        self.recent = SearchCache()
        self._beginning = asyncio.Lock()

    async def add(self, documents: Sequence[Document], progress: Callable[[int], None] = ignore_progress) -> int:
        """See the port."""
        return await self._take_in(documents, False, progress)

    async def replace(self, documents: Sequence[Document], progress: Callable[[int], None] = ignore_progress) -> int:
        """See the port."""
        return await self._take_in(documents, True, progress)

    async def remove(self, names: Sequence[str]) -> int:
        """See the port."""
        await self.begun()
        async with self.database.alone(self.lock):
            if (store := await self.rows.store()) is None:
                return 0
            await self.rows.forget_jobs(names)
            gone = await self.rows.publish(store, [], names)
            await self._purge(store)
        return gone

    async def forget(self) -> None:
        """Everything of the store is gone, its row too."""
        await self.rows.forget_jobs(None)
        async with self.database.alone(self.lock):
            if (store := await self.rows.store()) is not None:
                await self.rows.publish(store, [], None)
                await self._purge(store)
                await self._forget_index()
                await self.rows.forget(store)

    async def answers(self) -> bool:
        """See the port."""
        return await self.database.answers()

    async def documents(self) -> list[StoredDocument]:
        """See the port."""
        store = await self.begun()
        return await self.rows.known(store) if store else []

    async def stats(self) -> Stats:
        """See the port."""
        store = await self.begun()
        if store is None:
            return Stats(0, 0, 0, self.embedder.name)
        return Stats(len(await self.rows.live(store)), store.passages, store.generation, store.embedder)

    async def export(self) -> AsyncGenerator[Document, None]:
        """See the port."""
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
        """See the port. Each document arrives again beside itself, and all change over at one moment."""
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
        """The store's row; a new store takes in its sample first."""
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
        """Whether the store's vectors are of the embedder that the settings name, and its words of this version."""
        return store.embedder == self.embedder.name and store.words == WORDS

    async def vector(self, question: str) -> Vectors | None:
        """The question's vector; None if the embedder is away: words go on without it."""
        try:
            return await self.embedder.question(focus(question))
        except EmbedError as error:
            log.warning("a search goes by words alone", extra={"store": self.name, "reason": str(error)})
            return None

    async def ready(self) -> None:
        """Make what an engine needs beside the tables, once."""

    def likeness(self, similar: Vectors) -> Vectors:
        """Similarities from 0, as texts about different things have it, to 1."""
        unrelated = self.embedder.unrelated
        likeness: Vectors = np.clip((similar - unrelated) / (1 - unrelated), 0, 1)
        return likeness

    async def aclose(self) -> None:
        """See the port."""
        await self.embedder.aclose()
        if self.reranker is not None:
            await self.reranker.aclose()

    async def arrived(self, ids: list[int], batch: list[Prepared]) -> None:
        """Passages have been written; for an engine that keeps something of them elsewhere."""

    async def forgetting(self, ids: list[int]) -> None:
        """Passages are about to go."""

    async def elsewhere(self, question: str, most: int) -> ExternalHits | None:
        """What is near the question, where vectors are kept elsewhere; None: the rows have them."""
        return None

    async def _forget_index(self) -> None:
        """Throw away what was made of the rows, where an engine keeps such a thing."""

    async def holds(self, document: Document) -> bool:
        """Whether this very content is there under this name."""
        store = await self.rows.store()
        return store is not None and (await self.rows.live(store)).get(document.name) == document.digest

    async def take(
        self,
        document: Document,
        batches: AsyncIterable[Sequence[AnalysedPiece]],
        also: Also = nothing_else,
    ) -> int:
        """Like `add`, for one document whose pieces are still being read; what fails to be read leaves no trace."""
        async with self._alone() as store:
            arrival = DocumentWriter(self.rows, store, self.embedder, ignore_progress, self.arrived)
            if not await arrival.take(document, batches):
                raise EmptyDocumentError(f"store {self.name!r}: document {document.name!r} holds no text.")
            return await arrival.publish([document.name], also=also)

    async def _purge(self, store: StoreRow) -> None:
        """After it another writer may begin."""
        await to_the_end(self.rows.purge(store, self.forgetting))

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[StoreRow, None]:
        """The store, for its only writer. What did not come to be seen is gone at the end."""
        await self.ready()
        async with self.database.alone(self.lock):
            new = await self.rows.store() is None
            try:
                store = await self.rows.create(self.embedder.name)
                if not self.suits(store):
                    raise StoreError(
                        f"store {self.name!r} was indexed by {store.embedder!r} and {store.words!r}; the settings say"
                        f" {self.embedder.name!r} and {WORDS!r}. Run `dialgraph knowledge rebuild --store {self.name}`."
                    )
                await self._purge(store)  # what a writer left that was killed
                yield store
            except BaseException:
                await to_the_end(self._sweep(new))
                raise
            await self._purge(store)

    async def _sweep(self, new: bool) -> None:
        """Behind a change that failed; the row of a new store would stay though nobody asks for it again."""
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
        batches = analysed_pieces(pieces, self.embedder.hashing)
        # A few are computed at once; more would hold up every call.
        while batch := await in_thread(next, batches, None) if len(pieces) > _INLINE else next(batches, None):
            yield batch
