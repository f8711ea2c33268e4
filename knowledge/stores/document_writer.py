"""Writes documents into a store: pieces are written as they come, and all documents become visible at one moment."""

from collections.abc import AsyncIterable, Awaitable, Callable, Sequence

from dialgraph.language.words import is_chinese
from knowledge.document import Document
from knowledge.embedders.embed import Embedder
from knowledge.passages.analyse import BATCH, AnalysedPiece
from knowledge.store import Also, nothing_else
from knowledge.stores.prepare import Arriving, prepared
from knowledge.stores.prepared import Prepared
from knowledge.stores.rows import Rows, StoreRow

_TELL_LANGUAGE = 32
"""How many first pieces decide a document's language. The first one alone may be a title in another language."""


class DocumentWriter:
    """One change of a store. The caller must be the store's only writer, and must purge if the change fails."""

    def __init__(
        self,
        rows: Rows,
        store: StoreRow,
        embedder: Embedder,
        progress: Callable[[int], None],
        arrived: Callable[[list[int], list[Prepared]], Awaitable[None]],
        *,
        anew: bool = False,
    ) -> None:
        self._rows = rows
        self._arrived = arrived
        """Called with the ids and the passages that have been written."""
        self._store = store
        self._embedder = embedder
        self._progress = progress
        self._anew = anew
        """Whether no stored vector may be reused."""
        self._documents: list[tuple[Document, str]] = []
        self._ids: list[int] = []
        self._waiting: list[tuple[int, int, AnalysedPiece]] = []
        self.passages = 0
        """How many passages have been written."""

    async def take(self, document: Document, batches: AsyncIterable[Sequence[AnalysedPiece]]) -> int:
        """Write a document whose pieces come in batches.

        Returns the number of pieces. If there are none, the caller must refuse the document.
        """
        place = len(self._documents)
        position = 0
        async for batch in batches:
            if position == 0 and batch:
                begins = "".join(one.piece.text for one in batch[:_TELL_LANGUAGE])
                self._documents.append((document, "zh" if is_chinese(begins) else "en"))
            self._waiting += [(place, position + at, one) for at, one in enumerate(batch)]
            position += len(batch)
            while len(self._waiting) >= BATCH:
                await self._write(BATCH)
        return position

    async def publish(self, going: Sequence[str] | None, kept: Sequence[str] = (), also: Also = nothing_else) -> int:
        """Make all documents visible, and hide those named in `going` (None: all except those named in `kept`).

        Returns how many passages were added.
        """
        await self._write(len(self._waiting))
        embedder = self._embedder.name if self._anew else ""
        await self._rows.publish(
            self._store, self._ids, going, kept, embedder, lambda connection: also(connection, self.passages)
        )
        return self.passages

    async def _write(self, count: int) -> None:
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        if not batch:
            return
        if new := self._documents[len(self._ids) :]:
            self._ids += await self._rows.begin(self._store, new)
        arriving = [Arriving(self._ids[place], position, one) for place, position, one in batch]
        ready = await prepared(arriving, self._embedder, None if self._anew else self._rows, self._store)
        ids = await self._rows.arrive(self._store, ready, walked=not self._embedder.from_units)
        await self._arrived(ids, ready)
        self.passages += len(batch)
        self._progress(self.passages)
