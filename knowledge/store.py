"""The Store port: documents in, the passages that speak to a question out; and the table from URL scheme to engine."""

import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import parse_qs, urlsplit

from database.text import cleaned
from dialgraph.passages import LONGEST_QUESTION, MAX_TOP_K, QueryError, Searchable, StoreError

if TYPE_CHECKING:
    from database.engine import Database
    from knowledge.embed import Embedder
    from knowledge.rerank import Reranker

BASE_STORE_NAME = re.compile(r"base-([0-9a-f-]{36})-(.+)")
"""The name of the store behind a user's knowledge base: the base's id, and the name of its embedder."""
CUTTING = "pieces-1"
"""Part of every digest: with other rules for reading and cutting, the same file is no longer the same content."""
LONGEST_NAME = 512


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document that is found as one passage."""

    text: str
    heading: str = ""
    """The headings it stands under, joined by " › "."""
    page: int | None = None
    """From 1; None where a document has no pages."""
    start: int = 0
    """Where it begins and ends in the document's text, in characters."""
    end: int = 0


@dataclass(frozen=True)
class Document:
    """What is to be known under a name: a text, or its pieces where something has cut it already."""

    name: str
    text: str = ""
    pieces: tuple[Piece, ...] | None = None
    tags: tuple[str, ...] = ()
    media_type: str = "text/plain"
    source_digest: str = ""
    """The SHA-256 of the file that it was read from; the same content is not taken in twice."""
    known_digest: str = ""
    """What `digest` was when it was first taken in, of a document that comes out of a store."""

    @cached_property
    def digest(self) -> str:
        """The same for the same content and tags."""
        if self.known_digest:
            return self.known_digest
        content = (
            self.source_digest
            or hashlib.sha256(
                repr(self.pieces).encode() if self.pieces is not None else self.text.encode("utf-8", "replace")
            ).hexdigest()
        )
        return hashlib.sha256("\0".join((CUTTING, content, *self.tags)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Known:
    """A document that a store holds."""

    name: str
    passages: int
    characters: int
    language: str
    media_type: str
    added_at: int
    """Seconds since 1970."""
    tags: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Stats:
    """What a store holds."""

    documents: int
    passages: int
    generation: int
    """Grows with each change that a search can see."""
    embedder: str


def checked_name(name: str) -> str:
    """A document's name, if it can be kept. Raises StoreError."""
    if not 0 < len(name) <= LONGEST_NAME or "\0" in name or cleaned(name) != name:
        raise StoreError(
            f"{name[:40]!a}… cannot be a document's name. Accepted: 1 to {LONGEST_NAME} characters of text."
        )
    return name


def unheard(done: int) -> None:
    """A progress that nobody follows."""


class QueueFullError(Exception):
    """No more files are accepted now."""


class EmptyDocumentError(StoreError):
    """A document without a word of text."""


class Store(Searchable, Protocol):
    """Passages by name of their document. An instance serves the whole process."""

    async def add(self, documents: Sequence[Document], progress: Callable[[int], None] = unheard) -> int:
        """Take the documents in, all or none; one whose name is there is replaced, the same content costs nothing.

        `progress` hears how many passages are done. Returns how many passages the documents have.
        """

    async def replace(self, documents: Sequence[Document], progress: Callable[[int], None] = unheard) -> int:
        """Like `add`, and what else the store holds is gone at the same moment."""

    async def remove(self, names: Sequence[str]) -> int:
        """Forget the documents of these names. Returns how many there were."""

    async def answers(self) -> bool:
        """Return whether it can be searched now, as far as a quick look tells."""

    async def documents(self) -> list[Known]:
        """What is held, by name."""

    async def stats(self) -> Stats:
        """How much is held."""

    def export(self) -> AsyncGenerator[Document, None]:
        """Every document with its pieces, in a form that `add` takes."""

    async def verify(self) -> list[str]:
        """What is wrong, a sentence each: rows, words and vectors that do not agree."""

    async def rebuild(self, progress: Callable[[int], None] = unheard) -> int:
        """Make words and vectors again from the passages, with the embedder of the settings. Returns their number."""

    async def aclose(self) -> None:
        """Give back what is open."""


@dataclass(frozen=True, slots=True)
class Place:
    """What an engine is opened with."""

    name: str
    url: str
    database: "Database"
    folder: Path
    """For files of its own; only an embedded engine uses it."""
    embedder: "Embedder"
    reranker: "Reranker | None" = None
    sample: Path | None = None
    """A folder of documents that a new store begins with."""


ENGINES = {
    "faiss": "knowledge.faiss:FaissStore",
    "pgvector": "knowledge.pgvector:PgvectorStore",
    "langchain": "knowledge.langchain:open_langchain",
}
OPTIONS = frozenset({"embedder", "reranker"})


def options_of(name: str, url: str) -> dict[str, str]:
    """What stands behind the URL's question mark: the names of the store's embedder and reranker."""
    try:
        query = urlsplit(url).query
    except ValueError as error:
        raise ValueError(f"store {name!r}: the address {url!r} cannot be read.") from error
    options = {key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()}
    if unknown := sorted(set(options) - OPTIONS):
        raise ValueError(f"store {name!r}: no option {unknown[0]!r}. Accepted: {', '.join(sorted(OPTIONS))}.")
    return options


def open_store(place: Place) -> Store:
    """The engine that the URL names."""
    parts = urlsplit(place.url)
    scheme = parts.scheme
    if scheme not in ENGINES:
        accepted = ", ".join(f"`{engine}:`" for engine in sorted(ENGINES))
        raise ValueError(f"store {place.name!r}: {place.url!r} names no engine. Accepted: {accepted}.")
    if scheme != "langchain" and (parts.path or parts.netloc):
        raise ValueError(f"store {place.name!r}: {place.url!r} names a place. Accepted: `{scheme}:` alone.")
    module, attribute = ENGINES[scheme].split(":")
    return cast(Store, getattr(import_module(module), attribute)(place))


def checked(question: str, top_k: int) -> tuple[str, int]:
    """The question and how many passages are wanted, as an engine may take them."""
    text = cleaned(question).strip()
    if not text:
        raise QueryError("The question is empty.")
    if len(text) > LONGEST_QUESTION:
        raise QueryError(f"The question has {len(text)} characters. Accepted: at most {LONGEST_QUESTION}.")
    if top_k < 1:
        raise QueryError(f"top_k is {top_k}. Accepted: 1 to {MAX_TOP_K}.")
    return text, min(top_k, MAX_TOP_K)
