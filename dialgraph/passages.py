"""A passage, and the port that finds passages. A turn needs nothing else of a store."""

from dataclasses import dataclass
from typing import Protocol

MAX_TOP_K = 100
"""The most passages that one search returns; a larger `top_k` is lowered to it."""
LONGEST_QUESTION = 4_000
"""The most characters of a question: about five minutes of speech. The work on a question grows with its length."""


class StoreError(Exception):
    """A store cannot do what it was asked to do. The message names the store, but no path."""


class QueryError(StoreError):
    """The question cannot be searched for, because the question itself is not valid."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that a search returns."""

    text: str
    document: str
    heading: str
    score: float
    """From 0 to 1: how likely the passage is about the question (see `knowledge.search.relevance`)."""
    page: int | None = None
    start: int = 0
    end: int = 0
    """`start` and `end` are positions in the document's text, in characters."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The documents to search. An empty field accepts all documents."""

    documents: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    """A document must have all of these tags."""
    language: str = ""
    """`en` or `zh`."""

    def __bool__(self) -> bool:
        return bool(self.documents or self.tags or self.language)


class Searchable(Protocol):
    """The port that finds passages."""

    async def search(
        self, question: str, top_k: int, only: Filter | None = None, min_score: float | None = None
    ) -> list[Passage]:
        """Return the best passages, best first. The list is empty if no passage answers the question.

        `min_score` replaces the store's own threshold; with 0, even poor matches are returned. Raise QueryError.
        """
