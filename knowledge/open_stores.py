"""The stores of one process, opened at first use: those of the settings, and users' knowledge bases."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import RLock

from dialgraph.environment import in_thread
from dialgraph.models.breaker import Health
from dialgraph.services.lazy_engines import LazyEngines, open_engine, setting_of
from dialgraph.services.services import OpenServices
from dialgraph.services.settings import GraphSettings
from dialgraph.storage.database import Database
from knowledge.document import BASE_STORE_NAME
from knowledge.embedders.embed import open_embedder
from knowledge.embedders.rerank import Reranker, open_reranker
from knowledge.ingest.ingest import Ingestion
from knowledge.ingest.jobs import Jobs
from knowledge.store import Store, StoreConfig, open_store, options_of

MOST_BASES = 64
"""The most knowledge bases that stay open. When there are more, the least recently used one is dropped."""
SAMPLE = Path(__file__).parent / "sample"


class OpenStores:
    """Opens stores, their embedders and rerankers.

    Methods that are not async may block, and may be called in a thread.
    """

    def __init__(self, settings: GraphSettings, database: Callable[[], Database]) -> None:
        self._settings = settings
        self._database = database
        self._folder = settings.data_dir / "knowledge"
        self._stores: dict[str, Store] = {}
        self._bases: dict[str, Store] = {}
        self._embedders = LazyEngines("embedder", open_embedder, settings.embedder_addresses)
        self._ingestion: Ingestion | None = None
        self._warm: set[str] = set()
        self._opening = RLock()

    @classmethod
    def of(cls, services: OpenServices) -> "OpenStores":
        """Return the stores of a process's services."""
        stores = services.stores
        if not isinstance(stores, cls):
            raise TypeError(f"The stores are a {type(stores).__name__}. Expected: OpenStores.")
        return stores

    def store(self, name: str) -> Store:
        """Return the store with this name. Raises UnknownServiceError."""
        with self._opening:
            if base := BASE_STORE_NAME.fullmatch(name):
                return self._base(name, base[2])
            if name not in self._stores:
                self._stores[name] = open_engine(open_store, self._place(name))
            return self._stores[name]

    def to_delete(self, name: str) -> Store:
        """Return a knowledge base that is to be deleted, even if the settings no longer have its embedder."""
        with self._opening:
            self._bases.pop(name, None)
            return self._opened_base(name, "main")

    @property
    def ingestion(self) -> Ingestion:
        """The worker that reads files into stores."""
        with self._opening:
            if self._ingestion is None:
                self._ingestion = Ingestion(Jobs(self._database()), self.store)
            return self._ingestion

    def embedders(self) -> list[str]:
        """Return the names of the embedders in the settings."""
        return list(self._settings.embedder_addresses())

    async def warm(self, names: Iterable[str] | None = None) -> None:
        """Open these stores (None: those that are open) and search each once, so that the first caller does not wait.

        Each store is searched only once: a store that does not answer must not delay every turn.
        """
        for name in [name for name in names or tuple(self._stores) if name not in self._warm]:
            self._warm.add(name)
            await (await in_thread(self.store, name)).search("warm", 1)

    async def health(self) -> dict[str, Health]:
        """Return whether each open store of the settings answers."""
        names = list(self._stores)
        answers = await asyncio.gather(*(self._stores[name].answers() for name in names))
        return {name: "up" if there else "down" for name, there in zip(names, answers, strict=True)}

    async def aclose(self) -> None:
        """Close everything that was opened."""
        for store in (*self._stores.values(), *self._bases.values()):
            await store.aclose()

    def _base(self, name: str, embedder: str) -> Store:
        self._bases[name] = store = self._bases.pop(name, None) or self._opened_base(name, embedder)
        while len(self._bases) > MOST_BASES:
            del self._bases[next(iter(self._bases))]
        return store

    def _opened_base(self, name: str, embedder: str) -> Store:
        database = self._database()
        scheme = "faiss:" if database.engine == "sqlite" else "pgvector:"
        return open_engine(open_store, StoreConfig(name, scheme, database, self._folder, self._embedders[embedder]))

    def _place(self, name: str) -> StoreConfig:
        """Return the configuration of a store from the settings."""
        url = setting_of("store", name, self._settings.store_urls())
        options = open_engine(options_of, name, url)
        return StoreConfig(
            name,
            url,
            self._database(),
            self._folder,
            self._embedders[options.get("embedder", "main")],
            self._reranker(options["reranker"]) if "reranker" in options else None,
            sample=SAMPLE if name == "main" and self._settings.sample_handbook else None,
        )

    def _reranker(self, name: str) -> Reranker:
        return open_engine(open_reranker, name, setting_of("reranker", name, self._settings.rerankers))
