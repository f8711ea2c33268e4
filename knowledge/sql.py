"""What the stores on a database have in common: everything but the search."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence

import numpy as np

from knowledge.chunk import pieces_of
from knowledge.documents import read_documents
from knowledge.embed import Vectors
from knowledge.prepare import BATCH, prepared
from knowledge.rows import Rows, StoreRow
from knowledge.store import Document, Known, Piece, Place, Stats, StoreError, unheard
from knowledge.terms import WORDS
from language.words import is_chinese

log = logging.getLogger(__name__)


class SqlStore:
    """Writes and lists. One writer at a time, of all processes; readers wait for nobody."""

    def __init__(self, place: Place) -> None:
        self.name = place.name
        self.database = place.database
        self.embedder = place.embedder
        self.reranker = place.reranker
        self.rows = Rows(place.database, place.name)
        self._sample = place.sample
        self._beginning = asyncio.Lock()

    async def add(self, documents: Sequence[Document], progress: Callable[[int], None] = unheard) -> int:
        """See the port."""
        return await self._take_in(documents, False, progress)

    async def replace(self, documents: Sequence[Document], progress: Callable[[int], None] = unheard) -> int:
        """See the port."""
        return await self._take_in(documents, True, progress)

    async def remove(self, names: Sequence[str]) -> int:
        """See the port."""
        async with self.database.alone(f"knowledge-{self.name}"):
            if (store := await self.rows.store()) is None:
                return 0
            gone = await self.rows.publish(store, [], names)
            await self.rows.purge(store)
        return gone

    async def documents(self) -> list[Known]:
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
            async for known, pieces in self.rows.pieces(store):
                yield Document(
                    known.name,
                    pieces=tuple(pieces),
                    tags=known.tags,
                    media_type=known.media_type,
                )

    async def rebuild(self, progress: Callable[[int], None] = unheard) -> int:
        """See the port. Each document arrives again beside itself, and all change over at one moment."""
        async with self.database.alone(f"knowledge-{self.name}"):
            if (store := await self.rows.store()) is None:
                return 0
            await self.rows.purge(store)
            await self._forget_index()
            return await self._write(store, self.export(), None, progress, embedder=self.embedder.name)

    async def begun(self) -> StoreRow | None:
        """The store's row; a new store takes in its sample first."""
        row = await self.rows.store()
        if row is None and self._sample is not None:
            async with self._beginning:
                row = await self.rows.store()
                if row is None:
                    await self.add(await asyncio.to_thread(read_documents, [self._sample]))
                    row = await self.rows.store()
        return row

    def suits(self, store: StoreRow) -> bool:
        """Whether the store's vectors are of the embedder that the settings name, and its words of this version."""
        return store.embedder == self.embedder.name and store.words == WORDS

    def likeness(self, similar: Vectors) -> Vectors:
        """What similarities add to scores."""
        embedder = self.embedder
        added: Vectors = np.clip((similar - embedder.unrelated) / (1 - embedder.unrelated), 0, 1) * embedder.counts
        return added

    async def _forget_index(self) -> None:
        """Throw away what was made of the rows, where an engine keeps such a thing."""

    async def _take_in(self, documents: Sequence[Document], alone: bool, progress: Callable[[int], None]) -> int:
        names = [document.name for document in documents]
        if twice := {name for name in names if names.count(name) > 1}:
            raise StoreError(f"store {self.name!r}: two documents are named {min(twice)!r}.")
        async with self.database.alone(f"knowledge-{self.name}"):
            store = await self.rows.create(self.embedder.name)
            if not self.suits(store):
                raise StoreError(
                    f"store {self.name!r} was indexed by {store.embedder!r} and {store.words!r}; the settings say"
                    f" {self.embedder.name!r} and {WORDS!r}. Run `dialgraph knowledge rebuild --store {self.name}`."
                )
            await self.rows.purge(store)  # what a writer left that was killed
            live = await self.rows.live(store)
            fresh = [document for document in documents if live.get(document.name) != document.digest]
            for document in fresh:
                self._pieces(document)  # before anything is written
            going = None if alone else [document.name for document in fresh]
            kept = [document.name for document in documents if document not in fresh]
            count = 0
            if fresh or alone:
                count = await self._write(store, _each(fresh), going, progress, kept=kept)
            if len(fresh) < len(documents):
                counts = {known.name: known.passages for known in await self.rows.known(store)}
                count = sum(counts[name] for name in names)
        return count

    async def _write(
        self,
        store: StoreRow,
        documents: AsyncGenerator[Document, None],
        going: Sequence[str] | None,
        progress: Callable[[int], None],
        kept: Sequence[str] = (),
        embedder: str = "",
    ) -> int:
        """All documents arrive, then change over at once. The caller is the only writer."""
        done = 0
        arrived: list[int] = []
        try:
            pieces = self._arriving(store, documents, arrived)
            async for batch in prepared(pieces, self.embedder, None if embedder else self.rows, store):
                await self.rows.arrive(store, batch)
                done += len(batch)
                progress(done)
            await self.rows.publish(store, arrived, going, kept, embedder)
        finally:
            await asyncio.shield(self.rows.purge(store))
        return done

    async def _arriving(
        self, store: StoreRow, documents: AsyncGenerator[Document, None], arrived: list[int]
    ) -> AsyncGenerator[tuple[int, int, Piece], None]:
        """The pieces of the documents, whose rows are begun a few at a time."""
        waiting: list[tuple[Document, Sequence[Piece]]] = []
        held = 0
        async for document in documents:
            waiting.append((document, self._pieces(document)))
            held += len(waiting[-1][1])
            if held >= BATCH:
                async for one in self._begun(store, waiting, arrived):
                    yield one
                waiting, held = [], 0
        async for one in self._begun(store, waiting, arrived):
            yield one

    async def _begun(
        self, store: StoreRow, documents: list[tuple[Document, Sequence[Piece]]], arrived: list[int]
    ) -> AsyncGenerator[tuple[int, int, Piece], None]:
        if not documents:
            return
        languages = [(document, "zh" if is_chinese(pieces[0].text) else "en") for document, pieces in documents]
        numbers = await self.rows.begin(store, languages)
        arrived += numbers
        for number, (_, pieces) in zip(numbers, documents, strict=True):
            for position, piece in enumerate(pieces):
                yield number, position, piece

    def _pieces(self, document: Document) -> Sequence[Piece]:
        pieces = document.pieces if document.pieces is not None else pieces_of(document.text)
        if not pieces:
            raise StoreError(f"store {self.name!r}: document {document.name!r} holds no text.")
        return pieces


async def _each(documents: Sequence[Document]) -> AsyncGenerator[Document, None]:
    for document in documents:
        yield document
