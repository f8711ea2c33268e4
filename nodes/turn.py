"""One turn, as a node sees it: who asks, what was said, what may be used, and the line to the caller."""

import copy
import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, BinaryIO, Protocol
from uuid import uuid4

import orjson

from database.remembered import CallKey
from knowledge.store import Searchable
from models.errors import ModelError
from models.port import ChatModel, Message
from models.question import last_user_text
from nodes.call import Call
from nodes.events import Event, Say
from nodes.fillers import Fillers
from nodes.line import Line
from nodes.memory import CallMemory, MemoryTable
from profiles.openai import PROFILE as OPENAI
from profiles.profile import ActionKind, Profile
from speech.port import Voice
from speech.transcriber import Transcriber
from tools.functions import FunctionTools
from tools.port import Toolbox, ToolError, ToolSchema

log = logging.getLogger(__name__)


LONGEST_QUESTION = 4_000
"""Characters: some five minutes of speech. What looks at a question takes time for each of them."""


def tool_name(tool: object) -> str:
    """What a model calls a tool of OpenAI's form; empty for any other form."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool by which a model can choose where its step leads."""

    route: str
    tool: Mapping[str, Any]
    action: ActionKind | None = None
    """What the step does with the call; a host may have a tool of its own for it."""
    runs: bool = False
    """Whether it is a tool that runs on our side, beside others."""


@dataclass(frozen=True, slots=True)
class Toolset:
    """The tools of a step that runs them."""

    route: str
    servers: tuple[str, ...]
    only: tuple[str, ...]
    """Those of them that are offered; empty: all."""
    passes: int


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
    def fillers(self) -> Fillers:
        """What is known of silences."""


@dataclass
class Context:
    """What Studio shows as a run's context; JSON values only."""

    model: str = field(
        default="", metadata={"description": "The upstream's name of the model; empty: the settings' own."}
    )
    call_id: str = field(default="", metadata={"description": "The host's id of the call."})


class Turn(Context):
    """What a node is given beside the state. Every step sees its own, and all share one line."""

    def __init__(
        self,
        *,
        services: Services,
        messages: Sequence[Message] = (),
        request: Mapping[str, object] | None = None,
        call: Call | None = None,
        profile: Profile = OPENAI,
        model: str = "",
        api_key: str = "",
        streaming: bool = True,
        endpoint: str = "",
        keeps_messages: bool = False,
        carries_sound: bool = True,
    ) -> None:
        super().__init__(model=model, call_id=call.id if call else "")
        self.services = services
        self.messages = messages
        """As the caller sent them: no LangChain class has touched them."""
        self.request = request or {}
        """The request's other fields that are meant for a model."""
        self.call = call or Call()
        self.profile = profile
        """The dialect of the host that called, with what the endpoint sets otherwise."""
        self.api_key = api_key
        """The caller's own upstream key, when the server hands it on."""
        self.streaming = streaming
        self.endpoint = endpoint
        """The graph's name."""
        self.keeps_messages = keeps_messages
        """Whether the turn ends with an assistant message in the state: in Studio and notebooks."""
        self.carries_sound = carries_sound
        """Whether the caller's wire has a place for sound."""
        self.stack = AsyncExitStack()
        """What must be closed when the turn ends, however it ends."""
        self.line = Line()
        self.line.on_answer = self._answered
        self.step = ""
        self.offered: Mapping[str, Offer] = {}
        """Tools of the steps that this step's table leads to, by name."""
        self.toolset: Toolset | None = None
        """The tools that run in a step that this step's table leads to."""
        self.routes: Collection[str] = ()
        """The entries of this step's table."""
        self.memory = CallMemory(None, CallKey("", "", ""), {}, 0)
        """What is known of the call, where the graph declares a memory."""
        self.functions = FunctionTools()
        """The graph's own tools."""
        self.spoke = False
        """Whether this step has reached the caller's ear."""
        self._whole: Turn | None = None
        """The turn of which this is one step's view; None: this is it."""

    async def emit(self, event: Event) -> None:
        """Say it. Returns when the reader has room for more."""
        if event.audible:
            self.spoke = True
        await self.line.send(event)

    def _answered(self, first_word_ms: float) -> None:
        self.services.fillers.answered(self.endpoint, first_word_ms)

    async def say(self, text: str) -> None:
        """Speak these words."""
        if text:
            await self.emit(Say(text))

    @property
    def question(self) -> str:
        """The last user text, in whatever form the message has; of a very long one the end, where the question is."""
        return last_user_text(self.messages)[-LONGEST_QUESTION:]

    @cached_property
    def key(self) -> str:
        """The same for the same turn, however often it is sent: of one principal, endpoint, profile, call and turn,
        with the same messages, tools and parameters. 32 hexadecimal digits. Without a call id no turn is the same:
        two callers may say the same.
        """
        if not self.call.id:
            return uuid4().hex
        identity = [
            self.call.principal, self.endpoint, self.profile.name, self.call.id, self.call.turn_id, self.messages,
            self.request, self.model, self.api_key, self.streaming,
        ]  # fmt: skip
        try:
            data = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:  # it reads deeper nesting than it writes
            raise ModelError("rejected", "The request is nested too deeply.") from error
        return hashlib.blake2b(data, digest_size=16).hexdigest()

    @property
    def requested_tools(self) -> Mapping[str, object]:
        """The tools that the request itself declares, by name."""
        tools = self.request.get("tools")
        return {name: tool for tool in tools if (name := tool_name(tool))} if isinstance(tools, Sequence) else {}

    def asks_for(self, modality: str, *, absent: bool) -> bool:
        """Whether the request's `modalities` ask for it; `absent` is what it means that there are none."""
        if modality == "audio" and not self.carries_sound:
            return False
        modalities = self.request.get("modalities")
        return modality in modalities if isinstance(modalities, Sequence) and modalities else absent

    async def tools(self, servers: Sequence[str]) -> dict[str, tuple[ToolSchema, Toolbox]]:
        """The graph's own tools, then those of these servers, by name; of two of one name the first.

        A server that is away has none: the call goes on without it.
        """
        found: dict[str, tuple[ToolSchema, Toolbox]] = {}
        for box in (self.functions, *(self.services.toolbox(name) for name in servers)):
            try:
                for tool in await box.tools():
                    found.setdefault(tool_name(tool), (tool, box))
            except ToolError as error:
                log.warning("tools are left out", extra={"reason": str(error)})
        return found

    def at_step(
        self,
        step: str,
        offered: Mapping[str, Offer],
        toolset: Toolset | None = None,
        routes: Collection[str] = (),
    ) -> "Turn":
        """This turn as one step sees it."""
        view = copy.copy(self)
        view._whole = self._whole or self
        view.step, view.offered, view.toolset, view.routes, view.spoke = step, offered, toolset, routes, False
        return view

    def understand(self, messages: Sequence[Message]) -> None:
        """What the caller said is now known to be this; every later step reads it."""
        self.messages = (self._whole or self).messages = messages

    async def aclose(self) -> None:
        """Stop whatever still runs for this turn and close what it opened."""
        try:
            await self.line.aclose()
        finally:
            await self.stack.aclose()
            # Timers of pooled connections keep the context that they were made in, and so this turn: not its request.
            self.messages, self.request, self.call = (), {}, replace(self.call, extras={})
