"""One turn, as a node sees it: who asks, what was said, what may be used, and the line to the caller."""

import copy
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from dialgraph.environment import REAL, Environment
from dialgraph.models.history.text import last_user_text
from dialgraph.models.port import Message
from dialgraph.profiles.profile import Profile
from dialgraph.storage.remembered import CallKey
from dialgraph.tools.functions import FunctionTools
from dialgraph.tools.port import Toolbox, ToolError, ToolSchema
from dialgraph.turn.call import Call
from dialgraph.turn.events import Event, Say
from dialgraph.turn.line import Line
from dialgraph.turn.memory import CallMemory
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.services import Services
from dialgraph.turn.step_place import StepPlace, tool_name

log = logging.getLogger(__name__)


LONGEST_QUESTION = 4_000
"""Characters: some five minutes of speech. What looks at a question takes time for each of them."""


@dataclass
class Context:
    """What Studio shows as a run's context; JSON values only."""

    model: str = field(
        default="", metadata={"description": "The upstream's name of the model; empty: the settings' own."}
    )
    call_id: str = field(default="", metadata={"description": "The host's id of the call."})


class TurnState:
    """What all steps of a turn share."""

    __slots__ = (
        "asked", "environment", "functions", "key", "line", "memory", "messages", "prepared", "services", "stack",
    )  # fmt: skip

    def __init__(self, asked: TurnRequest, services: Services, environment: Environment) -> None:
        self.services = services
        self.environment = environment
        self.line = Line(environment, self._answered)
        self.stack = AsyncExitStack()
        self.memory = CallMemory(None, CallKey("", "", ""), {}, 0)
        self.functions = FunctionTools()
        self.prepared = False
        self.key = ""
        self.ask(asked)

    def ask(self, asked: TurnRequest) -> None:
        """Let this be what is asked for."""
        self.asked = asked
        self.messages = asked.messages

    def understand(self, messages: Sequence[Message]) -> None:
        """Let these messages stand for those of the request."""
        self.messages = messages

    def prepare(self, functions: FunctionTools, memory: CallMemory | None) -> None:
        """Take what the graph brings to each of its turns, once."""
        self.prepared = True
        self.functions = functions
        self.memory = memory or self.memory

    def identify(self) -> str:
        """The turn's key: its request's, or one of its own."""
        self.key = self.key or self.asked.key or self.environment.id()
        return self.key

    def _answered(self, first_word_ms: float) -> None:
        self.services.fillers.answered(self.asked.endpoint, first_word_ms)

    async def aclose(self) -> None:
        """See Turn."""
        try:
            await self.line.aclose()
        finally:
            await self.stack.aclose()
            # Timers of pooled connections keep the context that they were made in, and so this turn: not its request.
            self.ask(TurnRequest(profile=self.asked.profile))


class Turn:
    """What a node is given beside the state: one step's view of the turn that all steps share."""

    __slots__ = ("_state", "place", "spoke")

    def __init__(
        self, services: Services, asked: TurnRequest | None = None, *, environment: Environment = REAL
    ) -> None:
        self._state = TurnState(asked or TurnRequest(), services, environment)
        self.place = StepPlace()
        """Where the step stands."""
        self.spoke = False
        """Whether this step has reached the caller's ear."""

    def at_step(self, place: StepPlace) -> "Turn":
        """This turn as one step sees it."""
        view = copy.copy(self)
        view.place, view.spoke = place, False
        return view

    async def emit(self, event: Event) -> None:
        """Say it. Returns when the reader has room for more."""
        if event.audible:
            self.spoke = True
        await self._state.line.send(event)

    async def say(self, text: str) -> None:
        """Speak these words."""
        if text:
            await self.emit(Say(text))

    @property
    def asked(self) -> TurnRequest:
        """What the caller asks for, as it came."""
        return self._state.asked

    @property
    def messages(self) -> Sequence[Message]:
        """What was said, as the caller sent it, or as a step has understood it since."""
        return self._state.messages

    @property
    def request(self) -> Mapping[str, object]:
        """The request's other fields that are meant for a model."""
        return self._state.asked.parameters

    @property
    def call(self) -> Call:
        """The call that the turn belongs to."""
        return self._state.asked.call

    @property
    def profile(self) -> Profile:
        """The dialect of the host that called, with what the endpoint sets otherwise."""
        return self._state.asked.profile

    @property
    def endpoint(self) -> str:
        """The graph's name."""
        return self._state.asked.endpoint

    @property
    def services(self) -> Services:
        """What the names in a graph stand for."""
        return self._state.services

    @property
    def environment(self) -> Environment:
        """The clock, and where new ids come from."""
        return self._state.environment

    @property
    def line(self) -> Line:
        """The line to the caller's ear."""
        return self._state.line

    @property
    def stack(self) -> AsyncExitStack:
        """What must be closed when the turn ends, however it ends."""
        return self._state.stack

    @property
    def memory(self) -> CallMemory:
        """What is known of the call, where the graph declares a memory."""
        return self._state.memory

    @property
    def key(self) -> str:
        """The same for the same turn, however often it is sent; without a call id no turn is the same."""
        return self._state.identify()

    @property
    def question(self) -> str:
        """The last user text, in whatever form the message has; of a very long one the end, where the question is."""
        return last_user_text(self.messages)[-LONGEST_QUESTION:]

    @property
    def requested_tools(self) -> Mapping[str, object]:
        """The tools that the request itself declares, by name."""
        tools = self.request.get("tools")
        return {name: tool for tool in tools if (name := tool_name(tool))} if isinstance(tools, Sequence) else {}

    def asks_for(self, modality: str, *, absent: bool) -> bool:
        """Whether the request's `modalities` ask for it; `absent` is what it means that there are none."""
        if modality == "audio" and not self.asked.carries_sound:
            return False
        modalities = self.request.get("modalities")
        return modality in modalities if isinstance(modalities, Sequence) and modalities else absent

    async def tools(self, servers: Sequence[str]) -> dict[str, tuple[ToolSchema, Toolbox]]:
        """The graph's own tools, then those of these servers, by name; of two of one name the first.

        A server that is away has none: the call goes on without it.
        """
        found: dict[str, tuple[ToolSchema, Toolbox]] = {}
        for box in (self._state.functions, *(self.services.toolbox(name) for name in servers)):
            try:
                for tool in await box.tools():
                    found.setdefault(tool_name(tool), (tool, box))
            except ToolError as error:
                log.warning("tools are left out", extra={"reason": str(error)})
        return found

    def understand(self, messages: Sequence[Message]) -> None:
        """What the caller said is now known to be this; every later step reads it."""
        self._state.understand(messages)

    @property
    def prepared(self) -> bool:
        """Whether it has its graph's memory, tools and outlets."""
        return self._state.prepared

    def prepare(self, functions: FunctionTools, memory: CallMemory | None) -> None:
        """Take what the graph brings to each of its turns, once."""
        self._state.prepare(functions, memory)

    def ask(self, asked: TurnRequest) -> None:
        """Let this be what is asked for: in Studio it is known at the first step only."""
        self._state.ask(asked)

    async def aclose(self) -> None:
        """Stop whatever still runs for this turn and close what it opened."""
        await self._state.aclose()
