"""Any LangChain vector store or retriever as a store: it finds what is near, and our rows hold and score the documents.

`langchain:module:name` names a `VectorStore`, a `BaseRetriever`, or a function without arguments that returns one.
Documents that are added through us are stored in our rows too. So they are always whole, and are listed, exported and
found by words. What the vector store held before, or what a retriever finds, is returned unchanged, with its own score.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from langchain_core.documents import Document as LangChainDocument
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore

from dialgraph.environment import in_thread
from dialgraph.passages import Passage, StoreError
from knowledge.embedders.embed import HashingEmbedder
from knowledge.store import Store, StoreConfig
from knowledge.stores.external_hits import ExternalHits
from knowledge.stores.faiss import FaissStore
from knowledge.stores.pgvector import PgvectorStore
from knowledge.stores.prepared import Prepared
from knowledge.stores.sql import SqlStore

log = logging.getLogger(__name__)

Scored = tuple[LangChainDocument, float]
_OURS = "dialgraph_passage"
_COUNTS, _UNRELATED = 0.6, 0.3
"""How much full likeness adds to a score, and the score that means no likeness; typical for sentence models."""


def open_langchain(place: StoreConfig) -> Store:
    """Return the store that the URL names, with its rows in the project's database. Raises ValueError."""
    named = _named(place)
    engine = _OnSqlite if place.database.engine == "sqlite" else _OnPostgres
    store = engine(replace(place, embedder=HashingEmbedder(), sample=None))
    store.connect(named)
    return store


def _likeness_of(named: VectorStore | BaseRetriever) -> Callable[[float], float]:
    """Return the function that turns a vector store's scores into a likeness. Many vector stores return distances.

    LangChain's own function treats inner products as distances, which is wrong.
    """
    if isinstance(named, VectorStore) and "INNER" not in str(getattr(named, "distance_strategy", "")).upper():
        try:
            return (
                named._select_relevance_score_fn()
            )  # subclasses override this; the public method warns about negatives
        except Exception as error:  # noqa: BLE001  # not implemented, or an unknown strategy
            log.debug("the scores of a vector store were used unchanged", extra={"reason": type(error).__name__})
    return float  # langchain-core's own store returns cosine similarities


async def _near(named: VectorStore, question: str, most: int, likeness_of: Callable[[float], float]) -> list[Scored]:
    own = VectorStore._similarity_search_with_relevance_scores
    if type(named)._similarity_search_with_relevance_scores is not own:
        return await in_thread(named._similarity_search_with_relevance_scores, question, most)
    near = await named.asimilarity_search_with_score(question, k=most)
    return [(document, likeness_of(float(score))) for document, score in near]


def _named(place: StoreConfig) -> VectorStore | BaseRetriever:
    module, _, attribute = urlsplit(place.url).path.partition(":")
    try:
        found: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"store {place.name!r}: {module}:{attribute} cannot be imported. {error}") from error
    if not isinstance(found, VectorStore | BaseRetriever) and callable(found):
        try:
            found = found()
        except TypeError as error:
            raise ValueError(f"store {place.name!r}: {module}:{attribute} cannot be called. {error}") from error
    if not isinstance(found, VectorStore | BaseRetriever):
        raise ValueError(f"store {place.name!r}: {module}:{attribute} is neither a VectorStore nor a BaseRetriever.")
    return found


class _Proposals(SqlStore):
    """Asks LangChain what is near. Combined with an engine that does everything else."""

    def connect(self, named: VectorStore | BaseRetriever) -> None:
        """Set the store that proposes passages, once, before the first search."""
        self.named = named
        self.likeness_of = _likeness_of(named)

    async def arrived(self, ids: list[int], batch: list[Prepared]) -> None:
        """Add the new passages to the vector store. Raises StoreError for a retriever."""
        if isinstance(self.named, BaseRetriever):
            raise StoreError(f"store {self.name!r} is a retriever: it can be searched, but not changed.")
        documents = [
            LangChainDocument(
                page_content=prepared.piece.text, metadata={_OURS: number, "heading": prepared.piece.heading}
            )
            for number, prepared in zip(ids, batch, strict=True)
        ]
        await self.named.aadd_documents(documents, ids=[self._key(number) for number in ids])

    async def forgetting(self, ids: list[int]) -> None:
        """Delete the passages from the vector store, if it supports this."""
        if isinstance(self.named, VectorStore):
            try:
                await self.named.adelete([self._key(number) for number in ids])
            except Exception as error:  # noqa: BLE001  # many stores cannot delete; our rows decide what exists
                log.warning("vectors could not be deleted", extra={"store": self.name, "reason": type(error).__name__})

    async def elsewhere(self, question: str, most: int) -> ExternalHits | None:
        """Return what LangChain finds near the question; no hits if it fails."""
        try:
            if isinstance(self.named, BaseRetriever):
                documents = await self.named.ainvoke(question)
                scored = [(document, 1 / (1 + rank)) for rank, document in enumerate(documents)]
            else:
                scored = await _near(self.named, question, most, self.likeness_of)
            scored = [(document, float(np.squeeze(score))) for document, score in scored]
        except Exception as error:  # noqa: BLE001  # other people's code; the search continues with words
            log.warning(
                "a vector store failed; the search continued with words only",
                extra={"store": self.name, "reason": type(error).__name__},
            )
            return ExternalHits({})
        ours: dict[int, float] = {}
        others = []
        for document, score in scored:
            if not isfinite(score):
                continue
            if _OURS in document.metadata:
                likeness = min(max((score - _UNRELATED) / (1 - _UNRELATED), 0.0), 1.0)
                ours[int(document.metadata[_OURS])] = likeness
            else:
                others.append(_passage(document, score))
        return ExternalHits(ours, _COUNTS, others)

    def _key(self, number: int) -> str:
        return f"{self.name}-{number}"


class _OnSqlite(_Proposals, FaissStore):
    """Its passages and words are in SQLite."""


class _OnPostgres(_Proposals, PgvectorStore):
    """Its passages and words are in PostgreSQL."""


def _passage(document: LangChainDocument, score: float) -> Passage:
    """Return another store's document as a passage, with the usual fields of its metadata."""
    about = document.metadata
    page = about.get("page")
    return Passage(
        document.page_content,
        str(about.get("source", about.get("title", ""))),
        str(about.get("heading", "")),
        min(max(float(about.get("score", score)), 0.0), 1.0),
        int(page) if isinstance(page, int) else None,
    )
