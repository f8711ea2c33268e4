"""The services of a turn that uses a user's own model or store instead of those in the settings."""

from collections.abc import Iterable
from typing import BinaryIO

from dialgraph.models.port import ChatModel
from dialgraph.passages import Searchable
from dialgraph.speech.port import Voice
from dialgraph.speech.transcriber import Transcriber
from dialgraph.tools.port import Toolbox
from dialgraph.turn.filler_history import FillerHistory
from dialgraph.turn.memory import MemoryTable
from dialgraph.turn.node import Services


class UserServices:
    """The services of the process with the user's own model or store, under every name that a graph uses."""

    def __init__(self, services: Services, model: ChatModel | None = None, store: Searchable | None = None) -> None:
        self._services = services
        self._model = model
        self._store = store

    def model(self, name: str) -> ChatModel:
        """Return the user's own model, or else the model of that name."""
        return self._model or self._services.model(name)

    def store(self, name: str) -> Searchable:
        """Return the user's own store, or else the store of that name."""
        return self._store or self._services.store(name)

    async def warm_stores(self, names: Iterable[str]) -> None:
        """Warm these stores, unless the user has a store of their own."""
        if self._store is None:
            await self._services.warm_stores(names)

    def voice(self, name: str) -> Voice:
        """Return the voice of that name."""
        return self._services.voice(name)

    def toolbox(self, name: str) -> Toolbox:
        """Return the tools of the server of that name."""
        return self._services.toolbox(name)

    def own_tools(self, functions: Toolbox) -> Toolbox:
        """Return the functions of a graph as they are."""
        return functions

    def transcriber(self, name: str) -> Transcriber:
        """Return the transcriber of that name."""
        return self._services.transcriber(name)

    def recording(self, name: str) -> BinaryIO:
        """Open a file in the folder of recordings."""
        return self._services.recording(name)

    @property
    def memory(self) -> MemoryTable:
        """Return the table that stores what is known of calls."""
        return self._services.memory

    @property
    def fillers(self) -> FillerHistory:
        """Return the history of fillers."""
        return self._services.fillers
