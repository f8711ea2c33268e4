"""What the names in graphs stand for, opened at the first use: for server, Studio, notebooks and command line."""

import asyncio
from collections.abc import Callable, Iterable
from threading import RLock
from typing import TYPE_CHECKING, BinaryIO
from weakref import WeakKeyDictionary

from database.remembered import CallKey, Remembered
from environment.environment import in_thread
from graphs.settings import ROOT, GraphSettings
from graphs.shelf import Shelf, known, opened
from knowledge.embed import open_embedder
from knowledge.rerank import Reranker, open_reranker
from knowledge.store import BASE_STORE_NAME, Place, Store, open_store, options_of
from models.breaker import Health
from models.port import ChatModel, open_model
from nodes.fillers import Fillers
from nodes.memory import MemoryTable
from speech.port import Voice, open_voice
from speech.recordings import open_recording
from speech.transcriber import Transcriber, open_transcriber
from tools.port import Toolbox, open_toolbox

if TYPE_CHECKING:
    from database.engine import Database
    from knowledge.ingest import Ingestion

MOST_BASES = 64
"""Users' knowledge bases that are open at once."""
SAMPLE = ROOT / "knowledge" / "sample"


class OpenServices:
    """One process's models, stores and voices. Belongs to one event loop."""

    def __init__(self, settings: GraphSettings) -> None:
        self._settings = settings
        self._models = Shelf("model", open_model, settings.model_addresses)
        self._stores: dict[str, Store] = {}
        self._bases: dict[str, Store] = {}
        self._embedders = Shelf("embedder", open_embedder, settings.embedder_addresses)
        self._ingestion: Ingestion | None = None
        self._warm: set[str] = set()
        self._opening = RLock()
        self._voices = Shelf("voice", open_voice, settings.voice_addresses)
        self._transcribers = Shelf("transcriber", open_transcriber, settings.transcriber_addresses)
        self._toolboxes = Shelf("tool server", open_toolbox, lambda: settings.tool_servers)
        self._database: Database | None = None
        self.fillers = Fillers()

    def model(self, name: str) -> ChatModel:
        """See nodes.services.Services."""
        return self._models[name]

    def store(self, name: str) -> Store:
        """See nodes.services.Services. May be called in a thread, since opening reads files."""
        with self._opening:
            if base := BASE_STORE_NAME.fullmatch(name):
                return self._base(name, base[2])
            if name not in self._stores:
                self._stores[name] = opened(open_store, self._place(name))
            return self._stores[name]

    def _base(self, name: str, embedder: str) -> Store:
        """A user's knowledge base. Those that were not used for longest are let go of."""
        store = self._bases.pop(name, None)
        if store is None:
            store = self._opened_base(name, embedder)
        self._bases[name] = store
        while len(self._bases) > MOST_BASES:
            del self._bases[next(iter(self._bases))]
        return store

    def _opened_base(self, name: str, embedder: str) -> Store:
        scheme = "faiss:" if self.database.engine == "sqlite" else "pgvector:"
        folder = self._settings.data_dir / "knowledge"
        return opened(open_store, Place(name, scheme, self.database, folder, self._embedders[embedder]))

    def forgotten_base(self, name: str) -> Store:
        """A user's knowledge base that is to be deleted, also if the settings no longer have its embedder."""
        with self._opening:
            self._bases.pop(name, None)
            return self._opened_base(name, "main")

    @property
    def ingestion(self) -> "Ingestion":
        """The worker that takes files in."""
        with self._opening:
            if self._ingestion is None:
                from knowledge.ingest import Ingestion
                from knowledge.jobs import Jobs

                self._ingestion = Ingestion(Jobs(self._the_database()), self.store)
            return self._ingestion

    def embedders(self) -> list[str]:
        """The names of the embedders that the settings know."""
        return list(self._settings.embedder_addresses())

    def _place(self, name: str) -> Place:
        """What a store is opened with."""
        url = known("store", name, self._settings.store_urls())
        options = opened(options_of, name, url)
        return Place(
            name,
            url,
            self.database,
            self._settings.data_dir / "knowledge",
            self._embedders[options.get("embedder", "main")],
            self._reranker(options["reranker"]) if "reranker" in options else None,
            sample=SAMPLE if name == "main" and self._settings.sample_handbook else None,
        )

    def _reranker(self, name: str) -> Reranker:
        found = known("reranker", name, self._settings.rerankers)
        return opened(open_reranker, name, found)

    def voice(self, name: str) -> Voice:
        """See nodes.services.Services."""
        return self._voices[name]

    def transcriber(self, name: str) -> Transcriber:
        """See nodes.services.Services."""
        return self._transcribers[name]

    @property
    def database(self) -> "Database":
        """The one database."""
        with self._opening:
            return self._the_database()

    def _the_database(self) -> "Database":
        if self._database is None:
            from database.engine import Database  # a third of a second of imports, for those who remember

            self._database = opened(Database, self._settings.database_url.get_secret_value(), self._settings.data_dir)
        return self._database

    @property
    def memory(self) -> MemoryTable:
        """See nodes.services.Services."""
        return _Memory(self)

    def toolbox(self, name: str) -> Toolbox:
        """See nodes.services.Services."""
        return self._toolboxes[name]

    def recording(self, name: str) -> BinaryIO:
        """See nodes.services.Services. A graph names files, never places outside the folder."""
        return open_recording(self._settings.data_dir / "recordings", name)

    def open(self, kind: str, name: str) -> None:
        """Open a `model`, `store`, `voice` … now, so that a wrong name is known at the start."""
        doors: dict[str, Callable[[str], object]] = {
            "model": self.model,
            "store": self.store,
            "voice": self.voice,
            "transcriber": self.transcriber,
            "toolbox": self.toolbox,
        }
        if kind in doors:
            doors[kind](name)
        elif kind == "database":
            _ = self.database

    async def prewarm(self) -> None:
        """Do what would make the first call slow."""
        await asyncio.gather(*(model.prewarm() for model in self._models.values()))
        await asyncio.gather(*(voice.prewarm() for voice in self._voices.values()))
        await self.warm_stores(self._stores)

    async def warm_stores(self, names: Iterable[str]) -> None:
        """Open these stores, which reads files, and look into each once; one that was looked into is warm."""
        for name in [name for name in names if name not in self._warm]:
            self._warm.add(name)  # once: a store that is away does not hold up each turn
            await (await in_thread(self.store, name)).search("warm", 1)

    async def take_files_in(self) -> None:
        """Work off the queue of files until cancelled, also what a killed command left."""
        await self.ingestion.run()

    async def aclose(self) -> None:
        """Close all that was opened."""
        for model in self._models.values():
            await model.aclose()
        for voice in self._voices.values():
            await voice.aclose()
        for transcriber in self._transcribers.values():
            await transcriber.aclose()
        for store in (*self._stores.values(), *self._bases.values()):
            await store.aclose()
        for toolbox in self._toolboxes.values():
            await toolbox.aclose()
        if self._database is not None:
            await self._database.aclose()

    def model_health(self) -> dict[str, Health]:
        """How each model is that was opened."""
        return {name: model.breaker.health for name, model in self._models.items()}

    def voice_health(self) -> dict[str, Health]:
        """How each voice is that was opened."""
        return {name: "up" if voice.healthy else "down" for name, voice in self._voices.items()}

    async def store_health(self) -> dict[str, Health]:
        """How each store of the settings is that was opened."""
        names = list(self._stores)
        answers = await asyncio.gather(*(self._stores[name].answers() for name in names))
        return {name: "up" if there else "down" for name, there in zip(names, answers, strict=True)}


class _Memory:
    """The table of what calls have told; the database is opened in a thread, at the first use."""

    def __init__(self, services: OpenServices) -> None:
        self._services = services

    async def load(self, key: CallKey) -> Remembered:
        """See nodes.memory.MemoryTable."""
        return await (await in_thread(self._table)).load(key)

    async def save(self, key: CallKey, remembered: Remembered, lifetime_seconds: int) -> None:
        """See nodes.memory.MemoryTable."""
        await (await in_thread(self._table)).save(key, remembered, lifetime_seconds)

    def _table(self) -> MemoryTable:
        from database.call_memory import CallMemoryTable

        return CallMemoryTable(self._services.database)


_DEFAULT: "WeakKeyDictionary[asyncio.AbstractEventLoop, OpenServices]" = WeakKeyDictionary()


def default_services() -> OpenServices:
    """The services of a run that nobody gave any: Studio's and a notebook's, one set an event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _DEFAULT:
        _DEFAULT[loop] = OpenServices(GraphSettings())
    return _DEFAULT[loop]
