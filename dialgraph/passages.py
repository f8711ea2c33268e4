"""A passage, and the port of what finds passages: all that a turn needs of a knowledge store."""

from dataclasses import dataclass
from typing import Protocol

MAX_TOP_K = 100
"""The most passages that one search returns; a larger `top_k` is lowered to it."""
LONGEST_QUESTION = 4_000
"""The most characters in a question."""


class StoreError(Exception):
    """A store cannot do what it was asked to do. The message names the store and no path."""


class QueryError(StoreError):
    """The question cannot be searched for: the fault lies in the question."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that answers a question."""

    text: str
    document: str
    heading: str
    score: float
    """0 to 1: how certain it is that the passage is about the question (see `knowledge.search.relevance`)."""
    page: int | None = None
    start: int = 0
    end: int = 0
    """Its place in the document's text, in characters."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which documents may answer. An empty field accepts all of them."""

    documents: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    """A document must have all of them."""
    language: str = ""
    """`en` or `zh`."""

    def __bool__(self) -> bool:
        return bool(self.documents or self.tags or self.language)


class Searchable(Protocol):
    """Finds passages."""

    async def search(
        self, question: str, top_k: int, only: Filter | None = None, min_score: float | None = None
    ) -> list[Passage]:
        """Return the best passages, best first, or none if no passage answers the question.

        `min_score` replaces the store's own threshold; with 0 even poor matches are returned. Raises QueryError.
        """
