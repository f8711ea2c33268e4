"""The turn as a node sees it: who asks, what was said, which services it may use, and the line to the caller."""

import copy
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from dialgraph.environment import REAL, Environment
from dialgraph.models.history.text import last_user_text
from dialgraph.models.port import Message
from dialgraph.passages import LONGEST_QUESTION
from dialgraph.profiles.profile import Profile
from dialgraph.storage.remembered import CallKey
from dialgraph.tools.functions import FunctionTools
from dialgraph.tools.port import Toolbox, ToolError, ToolSchema
from dialgraph.turn.call import CallInfo
from dialgraph.turn.events import Event, Filler, Say
from dialgraph.turn.line import Line
from dialgraph.turn.memory import CallMemory
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.services import Services
from dialgraph.turn.step_place import StepPlace, tool_name
from dialgraph.turn.times import ModelTime, TurnTimes
from dialgraph.turn.watching import ModelCall, Watcher

log = logging.getLogger(__name__)


def _hint(about: str, **hints: object) -> dict[str, object]:
    return {"description": about, "json_schema_extra": hints} if hints else {"description": about}


@dataclass
class Context:
    """The context of a run in Studio. It holds only JSON values."""

    model: str = field(
        default="",
        metadata=_hint(
            "The upstream's name of the model. Empty: the one in the settings.",
            langgraph_nodes=["call_model"],
            examples=["gpt-4.1-mini"],
        ),
    )
    call_id: str = field(
        default="", metadata=_hint("The host's id of the call. Its stored memory is read. Empty: the id of the thread.")
    )
    caller_number: str = field(default="", metadata=_hint("The caller's phone number.", examples=["+15550100"]))
    source: Literal["", "greeting", "silence", "voicemail"] = field(
        default="", metadata=_hint("What began the turn. Empty: words of the caller.", langgraph_nodes=["greet"])
    )
    host: str = field(
        default="",
        metadata=_hint("The host whose dialect is used (docs/platforms). Empty: any host that speaks the words."),
    )


class TurnState:
    """The state that all steps of a turn share."""

    __slots__ = (
        "asked", "environment", "functions", "key", "line", "memory", "messages", "prepared", "services", "stack",
        "understood", "watchers",
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
        self.watchers: tuple[Watcher, ...] = ()
        self.ask(asked)

    def ask(self, asked: TurnRequest) -> None:
        """Set what the client asks for."""
        self.asked = asked
        self.messages = asked.messages
        self.understood = False

    def understand(self, messages: Sequence[Message]) -> None:
        """Replace the messages of the request with these."""
        self.messages = messages
        self.understood = True

    def resume(self, key: str) -> None:
        """Continue a turn that has this key."""
        self.key = key

    def prepare(self, functions: FunctionTools, memory: CallMemory | None) -> None:
        """Set the tools and the memory of the graph, once per turn."""
        self.prepared = True
        self.functions = functions
        self.memory = memory or self.memory

    def identify(self) -> str:
        """Return the key of the turn: the key of its request, or a new one."""
        self.key = self.key or self.asked.key or self.environment.id()
        return self.key

    def _answered(self, first_word_ms: float) -> None:
        self.services.fillers.answered(self.asked.endpoint, first_word_ms)

    async def aclose(self) -> None:
        """Stop everything that still runs for this turn, and close what it opened."""
        try:
            await self.line.aclose()
        finally:
            await self.stack.aclose()
            # Timers of pooled connections hold the context and so this turn. Drop the request, so that it can be freed.
            self.ask(TurnRequest(profile=self.asked.profile))


class Turn:
    """What a node gets in addition to the state: one step's view of the turn that all steps share."""

    __slots__ = ("_state", "place", "spoke")

    def __init__(
        self, services: Services, asked: TurnRequest | None = None, *, environment: Environment = REAL
    ) -> None:
        self._state = TurnState(asked or TurnRequest(), services, environment)
        self.place = StepPlace()
        """The place of the step in its graph."""
        self.spoke = False
        """Whether the caller has heard something from this step."""

    def at_step(self, place: StepPlace) -> "Turn":
        """Return this turn as one step sees it."""
        view = copy.copy(self)
        view.place, view.spoke = place, False
        return view

    async def emit(self, event: Event) -> None:
        """Emit the event. Return when the listener is ready for more."""
        if event.audible and not self.spoke:
            self.spoke = True
            if not self.times.spoken and not isinstance(event, Filler):
                self.times.spoken = self.environment.now()
        await self._state.line.send(event)

    async def say(self, text: str) -> None:
        """Speak these words. Raise TypeError if they are no text."""
        if not isinstance(text, str):
            raise TypeError(f"turn.say takes text, not {type(text).__name__}")
        if text:
            await self.emit(Say(text))

    @property
    def asked(self) -> TurnRequest:
        """Return the request as it came."""
        return self._state.asked

    @property
    def messages(self) -> Sequence[Message]:
        """Return the messages: those of the request, or those that a step has replaced them with."""
        return self._state.messages

    @property
    def request(self) -> Mapping[str, object]:
        """Return the other fields of the request that are meant for a model."""
        return self._state.asked.parameters

    @property
    def call(self) -> CallInfo:
        """Return the call that the turn belongs to."""
        return self._state.asked.call

    @property
    def profile(self) -> Profile:
        """Return the profile of the host, with the values that the endpoint sets itself."""
        return self._state.asked.profile

    @property
    def endpoint(self) -> str:
        """Return the name of the graph."""
        return self._state.asked.endpoint

    @property
    def services(self) -> Services:
        """Return the engines that a graph refers to by name."""
        return self._state.services

    @property
    def environment(self) -> Environment:
        """Return the environment: the clock, new ids and chance."""
        return self._state.environment

    @property
    def line(self) -> Line:
        """Return the line to the caller."""
        return self._state.line

    @property
    def times(self) -> TurnTimes:
        """Return the times of the turn."""
        return self._state.line.times

    @property
    def stack(self) -> AsyncExitStack:
        """Return the stack of everything that must be closed when the turn ends, also after an error."""
        return self._state.stack

    @property
    def memory(self) -> CallMemory:
        """Return the memory of the call. It is empty if the graph declares none."""
        return self._state.memory

    @property
    def key(self) -> str:
        """Return a key that is the same each time the same turn is sent. Without a call id every turn has a new key."""
        return self._state.identify()

    @property
    def question(self) -> str:
        """Return the last user text, from any form of message. A very long text is cut to its end."""
        return last_user_text(self.messages)[-LONGEST_QUESTION:]

    @property
    def requested_tools(self) -> Mapping[str, object]:
        """Return the tools that the request itself declares, by name."""
        tools = self.request.get("tools")
        return {name: tool for tool in tools if (name := tool_name(tool))} if isinstance(tools, Sequence) else {}

    def asks_for(self, modality: str, *, absent: bool) -> bool:
        """Return whether the request's `modalities` ask for this, or `absent` if the request has no `modalities`."""
        if modality == "audio" and not self.asked.carries_sound:
            return False
        modalities = self.request.get("modalities")
        return modality in modalities if isinstance(modalities, Sequence) and modalities else absent

    async def tools(self, servers: Sequence[str]) -> dict[str, tuple[ToolSchema, Toolbox]]:
        """Return the graph's own tools, then those of these servers, by name. Of two equal names the first one wins.

        The tools of a server that does not answer are left out, and the turn continues.
        """
        found: dict[str, tuple[ToolSchema, Toolbox]] = {}
        own = self.services.own_tools(self._state.functions)
        for box in (own, *(self.services.toolbox(name) for name in servers)):
            try:
                for tool in await box.tools():
                    found.setdefault(tool_name(tool), (tool, box))
            except ToolError as error:
                log.warning("the tools of a server were left out", extra={"reason": str(error)})
        return found

    def understand(self, messages: Sequence[Message]) -> None:
        """Replace the messages for all later steps, for example with the words of the caller's speech."""
        self._state.understand(messages)

    @property
    def understood(self) -> bool:
        """Return whether a step has replaced the messages."""
        return self._state.understood

    def resume(self, key: str) -> None:
        """Continue a turn that has this key, which began in an earlier run."""
        self._state.resume(key)

    async def begin(self, step: str, state: Mapping[str, object]) -> None:
        """Tell the watchers that a step begins, and the keys of the state that it can read."""
        for watcher in self._state.watchers:
            await watcher.stepping(step, state)

    async def report(self, step: str, update: Mapping[str, object]) -> None:
        """Tell the watchers what a step has written to the state."""
        for watcher in self._state.watchers:
            await watcher.stepped(step, update)

    @property
    def watched(self) -> bool:
        """Return whether somebody watches the turn."""
        return bool(self._state.watchers)

    def watch(self, *watchers: Watcher) -> None:
        """Report the calls of models and what the steps write to these watchers too."""
        self._state.watchers += watchers

    @asynccontextmanager
    async def asking(self, call: ModelCall) -> AsyncIterator[ModelCall]:
        """Report this call of a model when it begins and when it ends. Its answer is filled in during the block."""
        call.time = ModelTime(call.step, call.model, self.environment.now())
        self.times.models.append(call.time)
        for watcher in self._state.watchers:
            await watcher.asked(call)
        failure: BaseException | None = None
        try:
            yield call
        except BaseException as error:
            failure = error
            raise
        finally:
            call.ended(self.environment.now(), failure)
            for watcher in self._state.watchers:
                await watcher.answered(call, failure)
            del failure  # the error refers to this frame

    @property
    def prepared(self) -> bool:
        """Return whether the turn has the memory, tools and outlets of its graph."""
        return self._state.prepared

    def prepare(self, functions: FunctionTools, memory: CallMemory | None) -> None:
        """Set the tools and the memory of the graph, once per turn."""
        self._state.prepare(functions, memory)

    def ask(self, asked: TurnRequest) -> None:
        """Set what the client asks for. In Studio it is known only at the first step."""
        self._state.ask(asked)

    async def aclose(self) -> None:
        """Stop everything that still runs for this turn, and close what it opened."""
        await self._state.aclose()
