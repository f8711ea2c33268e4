"""Prepares a turn before its first step: connects its line, and adds the tools, memory and outlets of its graph."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from langchain_core.messages import AIMessage, convert_to_openai_messages
from langgraph.runtime import Runtime

from dialgraph.graph.errors import GraphError
from dialgraph.graph.outlets import Outlets
from dialgraph.graph.policy import Memory
from dialgraph.graph.spec import Graph
from dialgraph.models.port import Message
from dialgraph.storage.remembered import CallKey
from dialgraph.tools.functions import FunctionTools
from dialgraph.turn.events import Event, Filler, Say, Transcript, as_data
from dialgraph.turn.memory import CallMemory
from dialgraph.turn.node import Context, Turn


class StreamSink:
    """The sink in Studio and notebooks. It writes events to LangGraph's stream and collects the assistant's message."""

    def __init__(self, write: Callable[[Any], None], identity: str) -> None:
        self._write = write
        self._identity = identity
        self._words: list[str] = []

    async def __call__(self, event: Event) -> None:
        if isinstance(event, Say | Filler | Transcript):
            self._words.append(event.text)
        self._write(as_data(event))

    def message(self) -> dict[str, Any]:
        """Return the update of the state: the spoken words as the assistant's message."""
        return {"messages": [AIMessage("".join(self._words), id=self._identity)]}


class Preparation:
    """Prepares each turn of one graph before its first step."""

    def __init__(self, spec: Graph, outlets: Outlets, functions: FunctionTools) -> None:
        self._spec = spec
        self._outlets = outlets
        self._functions = functions

    def turn_in(self, runtime: Runtime[Context], state: Mapping[str, Any]) -> Turn:
        """Return the turn of this run, and prepare it if that has not been done. Raise GraphError if it has none."""
        turn = runtime.context
        if not isinstance(turn, Turn):
            raise GraphError("Run the graph with `astream` or `ainvoke`, because its steps are asynchronous.")
        if not turn.line.connected:
            turn.line.connect(StreamSink(runtime.stream_writer, turn.environment.id("msg_", 24)))
            turn.ask(
                replace(
                    turn.asked,
                    profile=self._spec.policy.applied_to(turn.profile),
                    endpoint=self._spec.name,
                    # The state holds the whole conversation; the input of the run lacks the thread's earlier messages.
                    messages=cast("list[Message]", convert_to_openai_messages(state.get("messages", []))),
                )
            )
        if not turn.prepared:
            memory = self._spec.policy.memory
            turn.prepare(self._functions, None if memory is None else self._memory(turn, memory))
            self._outlets.attach(turn)
        return turn

    def _memory(self, turn: Turn, declared: Memory) -> CallMemory:
        key = CallKey(turn.call.principal, self._spec.name, turn.call.id)
        return CallMemory(turn.services.memory, key, declared.slots, declared.lifetime_minutes * 60)
