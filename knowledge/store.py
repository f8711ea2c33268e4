"""The Store port: documents in, the passages that speak to a question out; and the table from URL scheme to engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import urlsplit


class StoreError(Exception):
    """A store cannot do what was asked. The message names the store and no path."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text to be known; adding a name again replaces what it held."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that speaks to a question."""

    text: str
    document: str
    heading: str
    score: float
    """0 to 1: how much of what was asked for it holds, rare words counting more."""


class Store(Protocol):
    """Passages by name of their document. An instance serves the whole process."""

    async def add(self, documents: Sequence[Document], progress: Callable[[int], None] = lambda done: None) -> int:
        """Take the documents in, all or none; `progress` hears how many are done. Returns the number of passages."""

    async def search(self, question: str, top_k: int) -> list[Passage]:
        """The best passages, best first; none if nothing speaks to the question."""

    async def aclose(self) -> None:
        """Give back what is open."""


ENGINES = {"faiss": "knowledge.faiss:FaissStore"}


def open_store(name: str, url: str, folder: Path, sample: Path | None = None) -> Store:
    """The engine that the URL names. An embedded one keeps its files in `folder`; a new one begins with `sample`."""
    parts = urlsplit(url)
    if parts.scheme not in ENGINES:
        raise ValueError(f"store {name!r}: no engine for {parts.scheme!r}. Accepted: {', '.join(sorted(ENGINES))}.")
    module, attribute = ENGINES[parts.scheme].split(":")
    place = Path(parts.path) if parts.path else folder / name
    return cast(Store, getattr(import_module(module), attribute)(name, place, sample))
