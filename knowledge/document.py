"""Documents and their pieces, as values."""

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property

from dialgraph.passages import StoreError
from dialgraph.storage.text import cleaned

BASE_STORE_NAME = re.compile(r"base-([0-9a-f-]{36})-(.+)")
"""The name of a knowledge base's store: the id of the base, and the name of its embedder."""
CUTTING = "pieces-1"
"""Part of every digest. Change it when the rules for reading or cutting change: then every file counts as new."""
LONGEST_NAME = 512


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document that a search returns as one passage."""

    text: str
    heading: str = ""
    """The headings above it, joined by " › "."""
    page: int | None = None
    """Counted from 1; None if the document has no pages."""
    start: int = 0
    """Where the piece begins and ends in the document's text, in characters."""
    end: int = 0


@dataclass(frozen=True)
class Document:
    """A document to store under a name: its text, or its pieces if it has been cut already."""

    name: str
    text: str = ""
    pieces: tuple[Piece, ...] | None = None
    tags: tuple[str, ...] = ()
    media_type: str = "text/plain"
    source_digest: str = ""
    """The SHA-256 of the file that the text was read from. The same content is not stored twice."""
    known_digest: str = ""
    """The `digest` from when the document was first added. Set only for a document that comes out of a store."""

    @cached_property
    def digest(self) -> str:
        """A digest that is equal for equal content and tags."""
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
class StoredDocument:
    """A document in a store, without its text."""

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
    """How much a store holds."""

    documents: int
    passages: int
    generation: int
    """Grows with each change that a search can see."""
    embedder: str


def checked_name(name: str) -> str:
    """Return the name if it is valid for a document. Raises StoreError."""
    if not 0 < len(name) <= LONGEST_NAME or "\0" in name or cleaned(name) != name:
        raise StoreError(
            f"{name[:40]!a}… is not a valid document name. Accepted: 1 to {LONGEST_NAME} characters of valid text."
        )
    return name


class QueueFullError(Exception):
    """The queue of files is full."""


class EmptyDocumentError(StoreError):
    """The document has no text."""
