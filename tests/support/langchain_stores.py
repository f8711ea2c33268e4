"""LangChain stores that tests name in a URL: `langchain:tests.support.langchain_stores:in_memory`."""

from collections import Counter
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from dialgraph.language.words import words
from knowledge.embedders.embed import DIMENSION, hashed


class Hashed(Embeddings):
    """The vectors of the built-in hashing embedder, as LangChain `Embeddings`."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [vector.tolist() for vector in hashed([Counter(words(text)) for text in texts])]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def in_memory() -> InMemoryVectorStore:
    """Return an empty in-memory store of langchain-core."""
    return InMemoryVectorStore(Hashed())


def filled() -> InMemoryVectorStore:
    """Return a store that another program has filled."""
    store = in_memory()
    store.add_documents([Document("Lions sleep at noon.", metadata={"source": "zoo.pdf", "page": 3})])
    return store


def of_community() -> VectorStore:
    """Return an empty FAISS store of langchain-community. Its scores are distances."""
    import faiss
    from langchain_community.docstore.in_memory import InMemoryDocstore
    from langchain_community.vectorstores import FAISS

    store: VectorStore = FAISS(Hashed(), faiss.IndexFlatL2(DIMENSION), InMemoryDocstore(), {})
    return store


class Retriever(BaseRetriever):
    """A retriever that returns the same two documents for every query."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return [Document("First.", metadata={"source": "a"}), Document("Second.", metadata={"title": "b"})]


retriever: Any = Retriever()
