"""Documents on their way into a store: their pieces are written as they come, and all are seen at one moment."""

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
"""Pieces of a document whose words tell its language: the first one may be a title in another."""


class DocumentWriter:
    """One change of a store. The caller is the store's only writer, and purges when this fails."""

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
        """Hears which passages have been written, under which ids."""
        self._store = store
        self._embedder = embedder
        self._progress = progress
        self._anew = anew
        """Whether no vector of the store may be used again."""
        self._documents: list[tuple[Document, str]] = []
        self._ids: list[int] = []
        self._waiting: list[tuple[int, int, AnalysedPiece]] = []
        self.passages = 0
        """Written up to now."""

    async def take(self, document: Document, batches: AsyncIterable[Sequence[AnalysedPiece]]) -> int:
        """The document, whose pieces come in batches. Returns how many there were; none is the caller's to refuse."""
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
        """Let all be seen, and the documents named `going` (None: all but `kept`) no longer. Returns how many passages
        came.
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
        ids = await self._rows.arrive(self._store, ready, walked=not self._embedder.hashing)
        await self._arrived(ids, ready)
        self.passages += len(batch)
        self._progress(self.passages)
