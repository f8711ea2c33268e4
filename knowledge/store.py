"""The Store port: documents go in, passages that answer a question come out. Also the table from scheme to engine."""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import parse_qs, urlsplit

from dialgraph.engines import engine_of
from dialgraph.passages import LONGEST_QUESTION, MAX_TOP_K, QueryError, Searchable
from dialgraph.storage.text import cleaned
from knowledge.document import Document, Stats, StoredDocument
from knowledge.passages.analyse import AnalysedPiece

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from dialgraph.storage.database import Database
    from knowledge.embedders.embed import Embedder
    from knowledge.embedders.rerank import Reranker

Also = Callable[["AsyncConnection", int], Awaitable[None]]
"""Called in the transaction that makes passages visible, with their number. If it raises, they stay invisible."""


async def nothing_else(connection: "AsyncConnection", passages: int) -> None:
    """Do nothing."""


def ignore_progress(done: int) -> None:
    """Ignore the progress."""


class Store(Searchable, Protocol):
    """Holds passages by their documents' names. One instance serves the whole process."""

    embedder: "Embedder"

    async def add(self, documents: Sequence[Document], progress: Callable[[int], None] = ignore_progress) -> int:
        """Add the documents, all or none. A document replaces the one with the same name.

        A document that has not changed costs nothing. `progress` is called with the number of passages that are done.
        Returns how many passages the documents have.
        """

    async def replace(self, documents: Sequence[Document], progress: Callable[[int], None] = ignore_progress) -> int:
        """Add the documents like `add`, and remove all others at the same moment."""

    async def remove(self, names: Sequence[str]) -> int:
        """Delete the documents with these names. Returns how many there were."""

    async def answers(self) -> bool:
        """Return whether the store can be searched now. This is only a quick check."""

    async def documents(self) -> list[StoredDocument]:
        """Return the stored documents, sorted by name."""

    async def stats(self) -> Stats:
        """Return how much the store holds."""

    def export(self) -> AsyncGenerator[Document, None]:
        """Yield every document with its pieces, in a form that `add` accepts."""

    async def verify(self) -> list[str]:
        """Return the faults, one sentence each: rows, words and vectors that do not agree."""

    async def rebuild(self, progress: Callable[[int], None] = ignore_progress) -> int:
        """Build words and vectors again from the passages, with the embedder of the settings.

        Returns the number of passages.
        """

    async def holds(self, document: Document) -> bool:
        """Return whether exactly this content is stored under this name."""

    async def take(
        self, document: Document, batches: AsyncIterable[Sequence[AnalysedPiece]], also: Also = nothing_else
    ) -> int:
        """Add one document whose pieces are still being read. If reading fails, nothing of it is stored.

        `also` runs in the transaction in which the document becomes visible. Returns how many passages it has.
        """

    async def forget(self) -> None:
        """Delete everything in the store, and the store itself."""

    async def aclose(self) -> None:
        """Close everything that the store has opened."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """What an engine needs to open a store."""

    name: str
    url: str
    database: "Database"
    folder: Path
    """For the engine's own files; only an embedded engine uses it."""
    embedder: "Embedder"
    reranker: "Reranker | None" = None
    sample: Path | None = None
    """A folder of documents that a new store starts with."""


ENGINES = {
    "faiss": "knowledge.stores.faiss:FaissStore",
    "pgvector": "knowledge.stores.pgvector:PgvectorStore",
    "langchain": "knowledge.stores.langchain:open_langchain",
}
OPTIONS = frozenset({"embedder", "reranker"})


def options_of(name: str, url: str) -> dict[str, str]:
    """Return the options in the URL's query: the names of the store's embedder and reranker. Raises ValueError."""
    try:
        query = urlsplit(url).query
    except ValueError as error:
        raise ValueError(f"store {name!r}: the address {url!r} is not a valid URL.") from error
    options = {key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()}
    if unknown := sorted(set(options) - OPTIONS):
        raise ValueError(f"store {name!r}: unknown option {unknown[0]!r}. Accepted: {', '.join(sorted(OPTIONS))}.")
    return options


def open_store(place: StoreConfig) -> Store:
    """Return the engine that the URL names. Raises ValueError."""
    parts = urlsplit(place.url)
    if parts.scheme in ENGINES and parts.scheme != "langchain" and (parts.path or parts.netloc):
        raise ValueError(f"store {place.name!r}: {place.url!r} has a host or a path. Accepted: only `{parts.scheme}:`.")
    accepted = f"{', '.join(f'`{scheme}:`' for scheme in sorted(ENGINES))}."
    return cast(Store, engine_of("store", place.name, place.url, ENGINES, accepted)(place))


def checked(question: str, top_k: int) -> tuple[str, int]:
    """Return the cleaned question, and `top_k` limited to MAX_TOP_K. Raises QueryError."""
    text = cleaned(question).strip()
    if not text:
        raise QueryError("The question is empty.")
    if len(text) > LONGEST_QUESTION:
        raise QueryError(f"The question has {len(text)} characters. Accepted: at most {LONGEST_QUESTION}.")
    if top_k < 1:
        raise QueryError(f"top_k is {top_k}. Accepted: 1 to {MAX_TOP_K}.")
    return text, min(top_k, MAX_TOP_K)
