"""The port of what the names in a graph stand for: models, stores, voices, tools."""

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
    """What the names in a graph stand for; opened at the first use."""

    def model(self, name: str) -> ChatModel:
        """The model of that name."""

    def store(self, name: str) -> Searchable:
        """The knowledge store of that name."""

    async def warm_stores(self, names: Iterable[str]) -> None:
        """Make the first search in these stores no slower than the others."""

    def voice(self, name: str) -> Voice:
        """The voice of that name."""

    def toolbox(self, name: str) -> Toolbox:
        """The tools of that name."""

    def transcriber(self, name: str) -> Transcriber:
        """Who understands speech, of that name."""

    def recording(self, name: str) -> BinaryIO:
        """A file in the folder of recordings, opened. Blocks. FileNotFoundError, RecordingError."""

    @property
    def memory(self) -> MemoryTable:
        """Where what is known of calls is kept."""

    @property
    def fillers(self) -> FillerHistory:
        """What is known of silences."""
