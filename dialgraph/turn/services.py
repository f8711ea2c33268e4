"""The Services port: the models, stores, voices, tools and other engines that a graph refers to by name."""

from collections.abc import Iterable
from typing import BinaryIO, Protocol

from dialgraph.models.port import ChatModel
from dialgraph.passages import Searchable
from dialgraph.speech.port import Voice
from dialgraph.speech.transcriber import Transcriber
from dialgraph.tools.port import Toolbox
from dialgraph.turn.filler_history import FillerHistory
from dialgraph.turn.memory import MemoryTable


class Services(Protocol):
    """The engines that a graph refers to by name. Each is opened on first use."""

    def model(self, name: str) -> ChatModel:
        """Return the model of that name."""

    def store(self, name: str) -> Searchable:
        """Return the store of that name."""

    async def warm_stores(self, names: Iterable[str]) -> None:
        """Prepare these stores, so that the first search is not slower than later ones."""

    def voice(self, name: str) -> Voice:
        """Return the voice of that name."""

    def toolbox(self, name: str) -> Toolbox:
        """Return the tools of the server of that name."""

    def own_tools(self, functions: Toolbox) -> Toolbox:
        """Return the functions of a graph as the turn uses them."""

    def transcriber(self, name: str) -> Transcriber:
        """Return the transcriber of that name."""

    def recording(self, name: str) -> BinaryIO:
        """Open a file in the folder of recordings. Blocks. Raise FileNotFoundError or RecordingError."""

    @property
    def memory(self) -> MemoryTable:
        """Return the table that stores the memories of calls."""

    @property
    def fillers(self) -> FillerHistory:
        """Return the history of fillers."""
