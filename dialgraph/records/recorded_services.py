"""The services of a recorded turn: the same engines, and everything they are asked and answer goes into the log."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, BinaryIO, Self, cast

from dialgraph.environment import Environment
from dialgraph.models.breaker import Breaker
from dialgraph.models.parts import Part
from dialgraph.models.port import ChatModel, ChatRequest
from dialgraph.passages import Filter, Passage, Searchable
from dialgraph.records.turn_log import Kind, TurnLog
from dialgraph.speech.port import Sound, Voice
from dialgraph.speech.transcriber import Transcriber
from dialgraph.storage.remembered import CallKey, Remembered
from dialgraph.tools.port import Toolbox, ToolContext, ToolSchema
from dialgraph.turn.filler_history import FillerHistory
from dialgraph.turn.memory import MemoryTable
from dialgraph.turn.services import Services


class RecordedServices:
    """The services of a process as one recorded turn uses them."""

    def __init__(self, services: Services, log: TurnLog) -> None:
        self._services = services
        self._log = log

    def model(self, name: str) -> ChatModel:
        """Return the model of that name. Its answers go into the log."""
        return _Model(name, self._services.model(name), self._log)

    def store(self, name: str) -> Searchable:
        """Return the store of that name. What it finds goes into the log."""
        return _Store(name, self._services.store(name), self._log)

    async def warm_stores(self, names: Iterable[str]) -> None:
        """Prepare these stores."""
        await self._services.warm_stores(names)

    def voice(self, name: str) -> Voice:
        """Return the voice of that name. Its speech goes into the log."""
        return _Voice(name, self._services.voice(name), self._log)

    def toolbox(self, name: str) -> Toolbox:
        """Return the tools of the server of that name. What they return goes into the log."""
        return RecordedToolbox(self._services.toolbox(name), self._log)

    def transcriber(self, name: str) -> Transcriber:
        """Return the transcriber of that name. Its words go into the log."""
        return _Transcriber(name, self._services.transcriber(name), self._log)

    def recording(self, name: str) -> BinaryIO:
        """Open a file in the folder of recordings."""
        return self._services.recording(name)

    def own_tools(self, functions: Toolbox) -> Toolbox:
        """Return the functions of the graph. What they return goes into the log."""
        return RecordedToolbox(functions, self._log)

    @property
    def memory(self) -> MemoryTable:
        """Return the table of memories. What it gives and takes goes into the log."""
        return _Memory(self._services.memory, self._log)

    @property
    def fillers(self) -> FillerHistory:
        """Return the history of fillers."""
        return self._services.fillers


class RecordedToolbox:
    """A set of tools whose calls go into the log."""

    def __init__(self, toolbox: Toolbox, log: TurnLog) -> None:
        self._toolbox = toolbox
        self._log = log

    async def tools(self) -> Sequence[ToolSchema]:
        """Return all tools."""
        return await self._toolbox.tools()

    async def call(self, name: str, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Call the tool, and note its arguments and its result."""
        number = self._log.number()
        self._log.add(Kind.CALLED, number, name, dict(arguments), context.idempotency_key)
        try:
            result = await self._toolbox.call(name, arguments, context)
        except BaseException as error:
            self._log.add(Kind.RETURNED, number, None, _named(error))
            raise
        self._log.add(Kind.RETURNED, number, result, "")
        return result

    async def aclose(self) -> None:
        """Do nothing: the process closes its tools."""


class _Model:
    def __init__(self, name: str, model: ChatModel, log: TurnLog) -> None:
        self._name = name
        self._model = model
        self._log = log

    @property
    def breaker(self) -> Breaker:
        return self._model.breaker

    async def prewarm(self) -> None:
        await self._model.prewarm()

    def stream(self, request: ChatRequest, stack: AsyncExitStack) -> AsyncGenerator[Part, None]:
        log, number = self._log, self._log.number()
        log.add(Kind.ASKED, number, self._name, list(request.messages), dict(request.parameters), request.model)
        return cast(AsyncGenerator[Part, None], _Parts(self._model.stream(request, stack), log, number))

    async def aclose(self) -> None:
        """Do nothing: the process closes its models."""


class _Parts:
    """The parts of an answer on their way. An async generator around another one would cost twice as much."""

    __slots__ = ("_add", "_ended", "_log", "_next", "_number", "_parts")

    def __init__(self, parts: AsyncGenerator[Part, None], log: TurnLog, number: int) -> None:
        self._parts = parts
        self._next = parts.__anext__
        self._log = log
        self._add = log.part
        self._number = number
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Part:
        try:
            part = await self._next()
        except StopAsyncIteration:
            self._end("")
            raise
        except BaseException as error:
            self._end(_named(error))
            raise
        self._add(self._number, part)
        return part

    async def aclose(self) -> None:
        """Stop the answer."""
        try:
            await self._parts.aclose()
        finally:
            self._end("closed")

    def _end(self, error: str) -> None:
        if not self._ended:
            self._ended = True
            self._log.add(Kind.ANSWERED, self._number, error)


class _Store:
    def __init__(self, name: str, store: Searchable, log: TurnLog) -> None:
        self._name = name
        self._store = store
        self._log = log

    async def search(
        self, question: str, top_k: int, only: Filter | None = None, min_score: float | None = None
    ) -> list[Passage]:
        number = self._log.number()
        self._log.add(Kind.SEARCHED, number, self._name, question, top_k, min_score)
        try:
            found = await self._store.search(question, top_k, only, min_score)
        except BaseException as error:
            self._log.add(Kind.FOUND, number, [], _named(error))
            raise
        self._log.add(Kind.FOUND, number, found, "")
        return found


class _Voice:
    def __init__(self, name: str, voice: Voice, log: TurnLog) -> None:
        self._name = name
        self._voice = voice
        self._log = log
        self.capabilities = voice.capabilities
        self.sample_rate = voice.sample_rate

    @property
    def healthy(self) -> bool:
        return self._voice.healthy

    async def speak(self, text: str, voice: str = "") -> AsyncGenerator[Sound, None]:
        log, number = self._log, self._log.number()
        log.add(Kind.SPEAK, number, self._name, text, voice)
        error = ""
        try:
            async with aclosing(self._voice.speak(text, voice)) as sounds:
                async for sound in sounds:
                    log.add(Kind.SOUND, number, sound)
                    yield sound
        except BaseException as failure:
            error = _named(failure)
            raise
        finally:
            log.add(Kind.SPOKE, number, error)

    async def prewarm(self) -> None:
        await self._voice.prewarm()

    async def aclose(self) -> None:
        """Do nothing: the process closes its voices."""


class _Transcriber:
    def __init__(self, name: str, transcriber: Transcriber, log: TurnLog) -> None:
        self._name = name
        self._transcriber = transcriber
        self._log = log

    async def transcribe(self, sound: bytes, form: str) -> str:
        number = self._log.number()
        self._log.add(Kind.HEAR, number, self._name, sound, form)
        try:
            words = await self._transcriber.transcribe(sound, form)
        except BaseException as error:
            self._log.add(Kind.HEARD, number, "", _named(error))
            raise
        self._log.add(Kind.HEARD, number, words, "")
        return words

    async def aclose(self) -> None:
        """Do nothing: the process closes its transcribers."""


class _Memory:
    def __init__(self, table: MemoryTable, log: TurnLog) -> None:
        self._table = table
        self._log = log

    async def load(self, key: CallKey) -> Remembered:
        found = await self._table.load(key)
        self._log.add(Kind.LOADED, found.stage, dict(found.slots))
        return found

    async def save(self, key: CallKey, remembered: Remembered, lifetime_seconds: int) -> None:
        self._log.add(Kind.SAVED, remembered.stage, dict(remembered.slots))
        await self._table.save(key, remembered, lifetime_seconds)


class RecordedEnvironment:
    """The environment of a recorded turn. Ids, dates and chance go into the log; the clock does not."""

    def __init__(self, environment: Environment, log: TurnLog) -> None:
        self._environment = environment
        self._log = log
        self.now = environment.now

    def date(self) -> float:
        """Return the seconds since 1970."""
        found = self._environment.date()
        self._log.add(Kind.DREW, "date", found)
        return found

    def id(self, prefix: str = "", digits: int = 32) -> str:
        """Return a new id."""
        found = self._environment.id(prefix, digits)
        self._log.add(Kind.DREW, "id", found)
        return found

    def chance(self) -> float:
        """Return a random number from 0 to 1."""
        found = self._environment.chance()
        self._log.add(Kind.DREW, "chance", found)
        return found


def _named(error: BaseException) -> str:
    """Return an error as the log names it: its kind, or its type."""
    return str(getattr(error, "kind", "") or type(error).__name__)
