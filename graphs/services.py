"""What the names in graphs stand for, opened at the first use: for server, Studio, notebooks and command line."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from database.remembered import CallKey, Remembered
from graphs.settings import ROOT, GraphSettings
from knowledge.embed import open_embedder
from knowledge.rerank import Reranker, open_reranker
from knowledge.store import Place, Store, open_store, options_of
from models.breaker import Health
from models.port import ChatModel, open_model
from nodes.fillers import Fillers
from nodes.memory import MemoryTable
from speech.port import Voice, open_voice
from tools.port import Toolbox, open_toolbox

if TYPE_CHECKING:
    from database.engine import Database

SAMPLE = ROOT / "knowledge" / "sample"
Engine = TypeVar("Engine")


class UnknownServiceError(Exception):
    """A graph names what the settings do not know."""


class OpenServices:
    """One process's models, stores and voices. Belongs to one event loop."""

    def __init__(self, settings: GraphSettings) -> None:
        self._settings = settings
        self._addresses = settings.model_addresses()
        self._models: dict[str, ChatModel] = {}
        self._stores: dict[str, Store] = {}
        self._warm: set[str] = set()
        self._opening = RLock()
        self._voices: dict[str, Voice] = {}
        self._toolboxes: dict[str, Toolbox] = {}
        self._database: Database | None = None
        self.fillers = Fillers()

    def model(self, name: str) -> ChatModel:
        """See nodes.turn.Services."""
        if name not in self._models:
            self._models[name] = _opened(open_model, name, _known("model", name, self._addresses))
        return self._models[name]

    def store(self, name: str) -> Store:
        """See nodes.turn.Services. May be called in a thread, since opening reads files."""
        with self._opening:
            if name not in self._stores:
                self._stores[name] = _opened(open_store, self._place(name))
            return self._stores[name]

    def _place(self, name: str) -> Place:
        """What a store is opened with."""
        url = _known("store", name, self._settings.store_urls())
        options = _opened(options_of, name, url)
        embedder = options.get("embedder", "main")
        address = _known("embedder", embedder, self._settings.embedder_addresses())
        return Place(
            name,
            url,
            self.database,
            self._settings.data_dir / "knowledge",
            _opened(open_embedder, embedder, address),
            self._reranker(options["reranker"]) if "reranker" in options else None,
            sample=SAMPLE if name == "main" and self._settings.sample_handbook else None,
        )

    def _reranker(self, name: str) -> Reranker:
        found = _known("reranker", name, self._settings.rerankers)
        return _opened(open_reranker, name, found.address())

    def voice(self, name: str) -> Voice:
        """See nodes.turn.Services."""
        if name not in self._voices:
            self._voices[name] = _opened(open_voice, name, _known("voice", name, self._settings.voice_urls()))
        return self._voices[name]

    @property
    def database(self) -> "Database":
        """The one database."""
        with self._opening:
            return self._the_database()

    def _the_database(self) -> "Database":
        if self._database is None:
            from database.engine import Database  # a third of a second of imports, for those who remember

            self._database = _opened(Database, self._settings.database_url.get_secret_value(), self._settings.data_dir)
        return self._database

    @property
    def memory(self) -> MemoryTable:
        """See nodes.turn.Services."""
        return _Memory(self)

    def toolbox(self, name: str) -> Toolbox:
        """See nodes.turn.Services."""
        if name not in self._toolboxes:
            self._toolboxes[name] = _opened(
                open_toolbox, name, _known("tool server", name, self._settings.tool_servers)
            )
        return self._toolboxes[name]

    def recording(self, name: str) -> Path:
        """See nodes.turn.Services. A graph names files, never places outside the folder."""
        folder = (self._settings.data_dir / "recordings").resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise UnknownServiceError(f"The recording {name!r} is outside the folder of recordings.")
        return path

    def open(self, kind: str, name: str) -> None:
        """Open a `model`, `store`, `voice` or `toolbox` now, so that a wrong name is known at the start."""
        doors = {"model": self.model, "store": self.store, "voice": self.voice, "toolbox": self.toolbox}
        if kind in doors:
            doors[kind](name)
        elif kind == "database":
            _ = self.database

    async def prewarm(self) -> None:
        """Do what would make the first call slow."""
        await asyncio.gather(*(model.prewarm() for model in self._models.values()))
        await self.warm_stores(self._stores)

    async def warm_stores(self, names: Iterable[str]) -> None:
        """Open these stores, which reads files, and look into each once; one that was looked into is warm."""
        for name in [name for name in names if name not in self._warm]:
            self._warm.add(name)  # once: a store that is away does not hold up each turn
            await (await asyncio.to_thread(self.store, name)).search("warm", 1)

    async def take_files_in(self) -> None:
        """Work off the queue of files until cancelled, also what a killed command left; nothing without a store."""
        if self._stores:
            from knowledge.ingest import Ingestion
            from knowledge.jobs import Jobs

            await Ingestion(Jobs(self.database), self.store).run()

    async def aclose(self) -> None:
        """Close all that was opened."""
        for model in self._models.values():
            await model.aclose()
        for store in self._stores.values():
            await store.aclose()
        for toolbox in self._toolboxes.values():
            await toolbox.aclose()
        if self._database is not None:
            await self._database.aclose()

    def health(self) -> dict[str, Health]:
        """How each model is that was opened."""
        return {name: model.breaker.health for name, model in self._models.items()}


class _Memory:
    """The table of what calls have told; the database is opened in a thread, at the first use."""

    def __init__(self, services: OpenServices) -> None:
        self._services = services

    async def load(self, key: CallKey) -> Remembered:
        """See nodes.memory.MemoryTable."""
        return await (await asyncio.to_thread(self._table)).load(key)

    async def save(self, key: CallKey, remembered: Remembered, lifetime_seconds: int) -> None:
        """See nodes.memory.MemoryTable."""
        await (await asyncio.to_thread(self._table)).save(key, remembered, lifetime_seconds)

    def _table(self) -> MemoryTable:
        from database.call_memory import CallMemoryTable

        return CallMemoryTable(self._services.database)


def _known(kind: str, name: str, known: Mapping[str, Engine]) -> Engine:
    if name not in known:
        raise UnknownServiceError(
            f"No {kind} {name!r} in the settings. Accepted: {', '.join(map(repr, sorted(known)))};"
            f" another one goes into `{kind.replace(' ', '_')}s` of dialgraph.yaml."
        )
    return known[name]


def _opened(open_engine: Callable[..., Engine], *arguments: Any) -> Engine:
    try:
        return open_engine(*arguments)
    except ValueError as error:
        raise UnknownServiceError(str(error)) from error


_DEFAULT: "WeakKeyDictionary[asyncio.AbstractEventLoop, OpenServices]" = WeakKeyDictionary()


def default_services() -> OpenServices:
    """The services of a run that nobody gave any: Studio's and a notebook's, one set an event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _DEFAULT:
        _DEFAULT[loop] = OpenServices(GraphSettings())
    return _DEFAULT[loop]
