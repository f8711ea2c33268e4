"""The services of a process with a model or a store of one user's in the place of the settings' own."""

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
    """See the module. Whatever name a graph gives them: a user's turn asks his own, and never the server's."""

    def __init__(self, services: Services, model: ChatModel | None = None, store: Searchable | None = None) -> None:
        self._services = services
        self._model = model
        self._store = store

    def model(self, name: str) -> ChatModel:
        """See dialgraph.turn.services.Services."""
        return self._model or self._services.model(name)

    def store(self, name: str) -> Searchable:
        """See dialgraph.turn.services.Services."""
        return self._store or self._services.store(name)

    async def warm_stores(self, names: Iterable[str]) -> None:
        """See dialgraph.turn.services.Services."""
        if self._store is None:
            await self._services.warm_stores(names)

    def voice(self, name: str) -> Voice:
        """See dialgraph.turn.services.Services."""
        return self._services.voice(name)

    def toolbox(self, name: str) -> Toolbox:
        """See dialgraph.turn.services.Services."""
        return self._services.toolbox(name)

    def transcriber(self, name: str) -> Transcriber:
        """See dialgraph.turn.services.Services."""
        return self._services.transcriber(name)

    def recording(self, name: str) -> BinaryIO:
        """See dialgraph.turn.services.Services."""
        return self._services.recording(name)

    @property
    def memory(self) -> MemoryTable:
        """See dialgraph.turn.services.Services."""
        return self._services.memory

    @property
    def fillers(self) -> FillerHistory:
        """See dialgraph.turn.services.Services."""
        return self._services.fillers
