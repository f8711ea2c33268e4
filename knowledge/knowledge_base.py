"""The values of a user's knowledge base, and the view that a turn has of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from uuid import uuid4

from dialgraph.passages import Filter, Passage, Searchable, StoreError
from dialgraph.storage.text import cleaned
from knowledge.document import StoredDocument

if TYPE_CHECKING:
    from knowledge.ingest.jobs import Job

LONGEST_FILE_NAME = 255
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class UnknownBaseError(StoreError):
    """The user has no knowledge base with this id."""


class UnknownDocumentError(StoreError):
    """The knowledge base has no document with this id."""


class QuotaError(StoreError):
    """The user has reached a limit. The message is written for that user."""


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """A user's knowledge base."""

    id: str
    name: str
    embedder: str
    """A name from the settings."""
    created_at: int
    """Milliseconds since 1970."""

    @property
    def store(self) -> str:
        """The name of its store."""
        return f"base-{self.id}-{self.embedder}"


@dataclass(frozen=True, slots=True)
class BaseDocument:
    """A document of a knowledge base: stored, waiting, being read, or failed."""

    id: str
    name: str
    state: str
    """`live`, or the state of its job."""
    passages: int
    characters: int = 0
    added_at: int = 0
    """Seconds since 1970."""
    error: str = ""

    @property
    def kind(self) -> str:
        """The suffix of the name, in lower case and without the dot."""
        return PurePosixPath(self.name).suffix[1:].lower()


class OneKnowledgeBase:
    """A knowledge base as a turn searches it.

    It can fix the number of passages. Each passage carries the name that the user gave to the document.
    """

    def __init__(self, store: Searchable, top_k: int | None = None) -> None:
        self._store = store
        self._top_k = top_k

    async def search(
        self, question: str, top_k: int, only: Filter | None = None, min_score: float | None = None
    ) -> list[Passage]:
        """Search the store, and show each document under the name that its user gave it."""
        found = await self._store.search(question, self._top_k or top_k, only, min_score)
        return [replace(passage, document=shown(passage.document)[1]) for passage in found]


def kept_name(file_name: str) -> str:
    """Return the name that a new document is stored under: a new id, a slash, and the file name, safe to show."""
    name = _UNSHOWN.sub("", cleaned(file_name)).replace("\\", "/").rpartition("/")[2].strip()[-LONGEST_FILE_NAME:]
    return f"{uuid4()}/{name if name.strip('.') else 'document'}"


def shown(kept: str) -> tuple[str, str]:
    """Return the id of a document and the name that its user gave it."""
    number, _, name = kept.partition("/")
    return number, name


def documents_of(known: Sequence[StoredDocument], jobs: "Sequence[Job]") -> list[BaseDocument]:
    """Return the stored documents, then those that are waiting, being read, or failed."""
    found = [BaseDocument(*shown(one.name), "live", one.passages, one.characters, one.added_at) for one in known]
    live = {one.name for one in known}
    waiting = [job for job in jobs if job.document not in live and job.state in ("queued", "running", "failed")]
    return found + [BaseDocument(*shown(job.document), job.state, job.done, error=job.error) for job in waiting]
