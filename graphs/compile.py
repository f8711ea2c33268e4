"""Graph → LangGraph. The only file that builds one; whatever is wrong is reported before anything runs."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, cast

from langchain_core.messages import AIMessage, convert_to_openai_messages
from langchain_core.runnables import RunnableConfig
from langgraph.channels import UntrackedValue
from langgraph.graph import END as LANGGRAPH_END
from langgraph.graph import START, StateGraph, add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict

from database.remembered import CallKey
from graphs.check import mistakes, offered_tool, read_options
from graphs.errors import GraphError
from graphs.outlets import Outlets
from graphs.paths import END_TURN, LABEL_ERROR, LABEL_OK, LABEL_TIMEOUT, following
from graphs.policy import Memory
from graphs.services import default_services
from graphs.spec import END, Graph
from graphs.step import WrappedStep
from knowledge.store import StoreError
from language.guard import Check
from models.port import Message
from nodes.call import Call
from nodes.catalogue import catalogue
from nodes.contract import Context, Node, Turn
from nodes.events import Event, Filler, Say, Transcript, as_data
from nodes.memory import CallMemory
from nodes.step_place import Offer, StepPlace, Toolset, tool_name
from nodes.turn_request import TurnRequest
from tools.functions import Function, FunctionTools


class Messages(TypedDict, total=False):
    """The door of Studio and notebooks: what goes in, and comes out with the assistant's message."""

    messages: Annotated[list[Any], add_messages]


class CompiledGraph(CompiledStateGraph[Any, Context, Any, Any]):
    """A LangGraph graph that also runs without the server: a run that brings no Turn is given one."""

    spec: Graph
    """What it was compiled from."""

    async def astream(
        self,
        input: Any,  # noqa: A002 (LangGraph's name)
        config: RunnableConfig | None = None,
        *,
        context: Any = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        """See LangGraph. `context` is a Turn when we serve, else a Context, its JSON data, or nothing."""
        if isinstance(context, Turn):
            turn, owned = context, False
        else:
            turn, owned = _turn_of(context), True
        try:
            # The server has done this at its start; elsewhere the first question would run out of its step's time.
            with suppress(StoreError):  # the step that searches has its own way to fail
                await turn.services.warm_stores(self._stores)
            stream = cast(AsyncGenerator[Any, None], super().astream(input, config, context=cast(Any, turn), **options))
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            if owned:
                await turn.aclose()

    @cached_property
    def _stores(self) -> list[str]:
        """The stores that its steps search."""
        uses = [use for node in self.builder.nodes.values() for use in (node.metadata or {}).get("uses", ())]
        return [name for kind, name in uses if kind == "store"]


def compile_graph(
    spec: Graph,
    nodes: Iterable[Node] = (),
    *,
    tools: Sequence[Function] = (),
    checks: Mapping[str, Check] | None = None,
) -> CompiledGraph:
    """The graph, ready to run. The author's own: `nodes` beside those of `nodes/`, `tools` that a model may call,
    `checks` of his guard.

    Raises GraphError with every mistake of the graph, a line each.
    """
    known = {**catalogue(), **{node.name: node for node in nodes}}
    if found := mistakes(spec, known, checks or {}):
        raise GraphError("\n".join(f"graph {spec.name!r}, {mistake}" for mistake in found))
    try:
        functions = FunctionTools(tools)
    except ValueError as error:
        raise GraphError(f"graph {spec.name!r}: {error}.") from None
    steps = [_wrap(spec, at, known) for at in range(len(spec.steps))]
    outlets = Outlets(spec.policy, checks or {}, sounds=any(step.node.sounds for step in steps))
    prepare = _Preparation(spec, outlets, functions)
    builder = StateGraph(_state_of(steps), context_schema=Context, input_schema=Messages, output_schema=Messages)
    for at, step in enumerate(steps):
        uses = [(kind, name) for option, kind in step.node.uses.items() for name in _names(step.options[option])]
        if step.node.needs_memory:
            uses.append(("database", "main"))
        if step.node.offers_tools and tools:
            uses.append(("tools", ", ".join(functions.names)))
        metadata = {"summary": step.node.summary, "options": dict(step.step.options), "uses": uses}
        builder.add_node(step.step.id, _action(step, prepare), defer=step.step.waits, metadata=metadata)
        _add_edges(builder, spec, at, step)
    waiting: dict[str, Any] = {"summary": "Wait until the caller has everything.", "uses": outlets.uses}
    builder.add_node(END_TURN, _end_turn(prepare), defer=True, metadata=waiting)
    builder.add_edge(START, steps[0].step.id)
    builder.add_edge(END_TURN, LANGGRAPH_END)
    compiled = builder.compile(name=spec.name)
    # The way LangGraph copies a graph, with our class for its own.
    graph = CompiledGraph(**vars(compiled))
    graph.spec = spec
    return graph


def _wrap(spec: Graph, at: int, nodes: Mapping[str, Node]) -> WrappedStep:
    step = spec.steps[at]
    node = nodes[step.node]
    routes = following(spec, at) if isinstance(step.then, dict) else {}
    by_name = {one.id: one for one in spec.steps}
    offered, toolset = {}, None
    for route, target in routes.items():
        tool = offered_tool(spec, by_name[target], nodes) if target != END else None
        if tool is not None:
            offered[tool_name(tool)] = Offer(route, tool, nodes[by_name[target].node].action)
        if target != END and nodes[by_name[target].node].offers_tools:
            own = read_options(by_name[target], nodes[by_name[target].node])
            toolset = Toolset(route, own["servers"], own["only"], own["passes"])
    return WrappedStep(step, node, read_options(step, node), StepPlace(step.id, offered, toolset, tuple(routes)))


def _names(option: str | Sequence[str]) -> Sequence[str]:
    return ((option,) if option else ()) if isinstance(option, str) else option


def _state_of(steps: Iterable[WrappedStep]) -> type[Any]:
    """Every key that some node declares, so that an author's key needs no other place; and each step's way to go on."""
    keys: dict[str, Any] = {"messages": Annotated[list[Any], add_messages]}
    for step in steps:
        declared = {*step.node.reads, *step.node.may_read, *step.node.writes} - {"route"}
        # Untracked: what one turn found must not be in the next turn of a Studio thread.
        keys |= dict.fromkeys(sorted(declared - keys.keys()), Annotated[Any, UntrackedValue])
        if step.chooses:
            keys[step.key] = Annotated[str, UntrackedValue]
    return cast("type[Any]", cast(Any, TypedDict)("State", keys, total=False))


def _action(step: WrappedStep, prepare: "_Preparation") -> Callable[..., Any]:
    async def run(state: dict[str, Any], runtime: Runtime[Context]) -> dict[str, Any]:
        turn = prepare.turn_in(runtime, state)
        return await step.run({"question": turn.question, **state}, turn)

    return run


def _add_edges(builder: StateGraph[Any, Context, Any, Any], spec: Graph, at: int, step: WrappedStep) -> None:
    own: dict[Hashable, str] = {route: _target(name) for route, name in following(spec, at).items()}
    if not step.chooses:
        for target in own.values():
            builder.add_edge(step.step.id, target)
        return
    if len(own) == 1 and not step.place.routes:
        own = {LABEL_OK: next(iter(own.values()))}
    ways = dict(own)
    if step.step.on_timeout:
        ways[LABEL_TIMEOUT] = _target(step.step.on_timeout)
    if step.step.on_error:
        ways[LABEL_ERROR] = _target(step.step.on_error)

    def choose(state: Mapping[str, Any]) -> Hashable | list[Hashable]:
        label = str(state[step.key])
        # Without a table "done" stands for all its targets at once.
        return label if label in ways else list(own)

    builder.add_conditional_edges(step.step.id, choose, ways)


def _target(name: str) -> str:
    return END_TURN if name == END else name


def _turn_of(context: Any) -> Turn:
    """A Turn for a run that was not started by the server; its first step connects it."""
    context = context if isinstance(context, Context) else Context(**(context or {}))
    asked = TurnRequest(call=Call(id=context.call_id), model=context.model)
    return Turn(default_services(), asked)


class _StreamSink:
    """Where a turn's events end in Studio and notebooks: LangGraph's stream, and the message that the turn becomes."""

    def __init__(self, write: Callable[[Any], None], identity: str) -> None:
        self._write = write
        self._identity = identity
        self._words: list[str] = []

    async def __call__(self, event: Event) -> None:
        if isinstance(event, Say | Filler | Transcript):
            self._words.append(event.text)
        self._write(as_data(event))

    def message(self) -> dict[str, Any]:
        """The state's update: what was heard, as the assistant's message."""
        return {"messages": [AIMessage("".join(self._words), id=self._identity)]}


class _Preparation:
    """What a turn needs before its first step: a line that leads somewhere, and the endpoint's outlets on it."""

    def __init__(self, spec: Graph, outlets: Outlets, functions: FunctionTools) -> None:
        self._spec = spec
        self._outlets = outlets
        self._functions = functions

    def turn_in(self, runtime: Runtime[Context], state: Mapping[str, Any]) -> Turn:
        """The turn of this run, prepared."""
        turn = runtime.context
        if not isinstance(turn, Turn):
            raise GraphError("A graph is run through `astream` or `ainvoke`: its steps are asynchronous.")
        if not turn.line.connected:
            turn.line.connect(_StreamSink(runtime.stream_writer, turn.environment.id("msg_", 24)))
            turn.ask(
                replace(
                    turn.asked,
                    profile=self._spec.policy.applied_to(turn.profile),
                    endpoint=self._spec.name,
                    # The whole conversation: a thread's earlier messages are in the state, not in the run's input.
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


def _end_turn(prepare: _Preparation) -> Callable[..., Any]:
    async def run(state: dict[str, Any], runtime: Runtime[Context]) -> dict[str, Any]:
        """The step that every path crosses: drain the outlets, stop the timers, keep what was said."""
        turn = prepare.turn_in(runtime, state)
        await turn.line.drain()
        return turn.line.sink.message() if isinstance(turn.line.sink, _StreamSink) else {}

    return run
