"""The services of one process: opens each engine on first use, for the server, Studio, notebooks and command line."""

import asyncio
from collections.abc import Callable, Iterable
from threading import RLock
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast
from weakref import WeakKeyDictionary

from dialgraph.engines import engine_of
from dialgraph.environment import in_thread
from dialgraph.models.breaker import Health
from dialgraph.models.port import ChatModel, open_model
from dialgraph.passages import Searchable
from dialgraph.services.lazy_engines import LazyEngines, open_engine
from dialgraph.services.settings import GraphSettings
from dialgraph.speech.port import Voice, open_voice
from dialgraph.speech.recordings import open_recording
from dialgraph.speech.transcriber import Transcriber, open_transcriber
from dialgraph.storage.remembered import CallKey, Remembered
from dialgraph.tools.port import Toolbox, open_toolbox
from dialgraph.turn.filler_history import FillerHistory
from dialgraph.turn.memory import MemoryTable

if TYPE_CHECKING:
    from dialgraph.storage.database import Database

STORES = {"knowledge": "knowledge.open_stores:OpenStores"}
"""The class of the stores, as a dotted path, because dialgraph/ does not import knowledge/."""


class Stores(Protocol):
    """The port of the knowledge stores of one process."""

    def store(self, name: str) -> Searchable:
        """Return the store of that name. Raise UnknownServiceError if there is none."""

    async def warm(self, names: Iterable[str] | None = None) -> None:
        """Open these stores and run one search in each. None: the stores that are open already."""

    async def health(self) -> dict[str, Health]:
        """Return the health of each open store of the settings, by name."""

    async def aclose(self) -> None:
        """Close everything that was opened."""


class OpenServices:
    """The models, stores, voices and other engines of one process. They belong to one event loop."""

    def __init__(self, settings: GraphSettings) -> None:
        self.settings = settings
        self._models = LazyEngines("model", open_model, settings.model_addresses)
        self._stores: Stores | None = None
        self._opening = RLock()
        self._voices = LazyEngines("voice", open_voice, settings.voice_addresses)
        self._transcribers = LazyEngines("transcriber", open_transcriber, settings.transcriber_addresses)
        self._toolboxes = LazyEngines("tool server", open_toolbox, lambda: settings.tool_servers)
        self._database: Database | None = None
        self.fillers = FillerHistory()
        self.closed = False

    def model(self, name: str) -> ChatModel:
        """Return the model of that name; open it on first use."""
        return self._models[name]

    def store(self, name: str) -> Searchable:
        """Return the store of that name; open it on first use. That may read files, so call it in a thread."""
        return self.stores.store(name)

    async def warm_stores(self, names: Iterable[str]) -> None:
        """Open these stores and run one search in each."""
        await self.stores.warm(names)

    @property
    def stores(self) -> Stores:
        """Return the knowledge stores."""
        with self._opening:
            if self._stores is None:
                engine = engine_of("stores", "knowledge", "knowledge:", STORES)
                self._stores = cast(Stores, engine(self.settings, lambda: self.database))
            return self._stores

    def voice(self, name: str) -> Voice:
        """Return the voice of that name; open it on first use."""
        return self._voices[name]

    def own_tools(self, functions: Toolbox) -> Toolbox:
        """Return the functions of a graph as they are."""
        return functions

    def transcriber(self, name: str) -> Transcriber:
        """Return the transcriber of that name; open it on first use."""
        return self._transcribers[name]

    @property
    def database(self) -> "Database":
        """Return the database; open it on first use."""
        with self._opening:
            return self._the_database()

    def _the_database(self) -> "Database":
        if self._database is None:
            from dialgraph.storage.database import Database  # imports for a third of a second, so only when needed

            url = self.settings.database_url.get_secret_value()
            self._database = open_engine(Database, url, self.settings.data_dir)
        return self._database

    @property
    def memory(self) -> MemoryTable:
        """Return the table that stores what is known of calls."""
        return _Memory(self)

    def toolbox(self, name: str) -> Toolbox:
        """Return the tools of the server of that name; open it on first use."""
        return self._toolboxes[name]

    def recording(self, name: str) -> BinaryIO:
        """Open a file in the folder `recordings` of the data folder. Files outside this folder are refused."""
        return open_recording(self.settings.data_dir / "recordings", name)

    def open(self, kind: str, name: str) -> None:
        """Open a `model`, `store`, `voice` … now, so that a wrong name is reported at the start."""
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
        """Prepare the open models, voices and stores, so that the first call is not slower than others."""
        await asyncio.gather(*(model.prewarm() for model in self._models.values()))
        await asyncio.gather(*(voice.prewarm() for voice in self._voices.values()))
        if self._stores is not None:
            await self._stores.warm()

    async def aclose(self) -> None:
        """Close everything that was opened."""
        self.closed = True
        for model in self._models.values():
            await model.aclose()
        for voice in self._voices.values():
            await voice.aclose()
        for transcriber in self._transcribers.values():
            await transcriber.aclose()
        if self._stores is not None:
            await self._stores.aclose()
        for toolbox in self._toolboxes.values():
            await toolbox.aclose()
        if self._database is not None:
            await self._database.aclose()

    def model_health(self) -> dict[str, Health]:
        """Return the health of each open model, by name."""
        return {name: model.breaker.health for name, model in self._models.items()}

    def voice_health(self) -> dict[str, Health]:
        """Return the health of each open voice, by name."""
        return {name: "up" if voice.healthy else "down" for name, voice in self._voices.items()}

    async def store_health(self) -> dict[str, Health]:
        """Return the health of each open store of the settings, by name."""
        return await self._stores.health() if self._stores is not None else {}


class _Memory:
    """The table of call memories. It opens the database in a thread, on first use."""

    def __init__(self, services: OpenServices) -> None:
        self._services = services

    async def load(self, key: CallKey) -> Remembered:
        """Return what is stored of this call."""
        return await (await in_thread(self._table)).load(key)

    async def save(self, key: CallKey, remembered: Remembered, lifetime_seconds: int) -> None:
        """Store this for the call."""
        await (await in_thread(self._table)).save(key, remembered, lifetime_seconds)

    def _table(self) -> MemoryTable:
        from dialgraph.storage.call_memory import CallMemoryTable

        return CallMemoryTable(self._services.database)


_DEFAULT: "WeakKeyDictionary[asyncio.AbstractEventLoop, OpenServices]" = WeakKeyDictionary()


async def prepared_services() -> OpenServices:
    """Return the default services of this event loop. Their settings are read in a thread, because that reads files."""
    loop = asyncio.get_running_loop()
    if loop not in _DEFAULT or _DEFAULT[loop].closed:
        _DEFAULT[loop] = OpenServices(await in_thread(GraphSettings))
    return _DEFAULT[loop]


def default_services() -> OpenServices:
    """Return the services for runs in Studio and notebooks, which bring none. Each event loop has its own."""
    loop = asyncio.get_running_loop()
    if loop not in _DEFAULT or _DEFAULT[loop].closed:
        _DEFAULT[loop] = OpenServices(GraphSettings())
    return _DEFAULT[loop]
