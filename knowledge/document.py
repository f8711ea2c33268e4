"""Documents and their pieces, as values."""

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property

from dialgraph.passages import StoreError
from dialgraph.storage.text import cleaned

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
class StoredDocument:
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


class QueueFullError(Exception):
    """No more files are accepted now."""


class EmptyDocumentError(StoreError):
    """A document without a word of text."""
