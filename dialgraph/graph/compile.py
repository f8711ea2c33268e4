"""Compiles a Graph to LangGraph, here and nowhere else. Every mistake is reported before anything runs."""

import hashlib
import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.channels import UntrackedValue
from langgraph.graph import END as LANGGRAPH_END
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from dialgraph.environment import REAL
from dialgraph.graph.catalogue import catalogue, plugin_nodes, project_nodes, template_folder
from dialgraph.graph.check import mistakes, offered_tool, read_options
from dialgraph.graph.drawing import draw
from dialgraph.graph.errors import GraphError
from dialgraph.graph.outlets import Outlets
from dialgraph.graph.paths import LABEL_ERROR, LABEL_OK, LABEL_TIMEOUT, following
from dialgraph.graph.preparation import Preparation
from dialgraph.graph.sequence import MOST_STEPS, StepSequence, runs_in_sequence
from dialgraph.graph.spec import END, Graph
from dialgraph.graph.state import Input, cleared, state_types
from dialgraph.graph.step import WrappedStep
from dialgraph.graph.studio import StudioSteps, studio_profile
from dialgraph.graph.synchronous import in_background
from dialgraph.language.guard import Check
from dialgraph.passages import StoreError
from dialgraph.records.recorder import local_end, outcome_of
from dialgraph.records.records import records_of
from dialgraph.services.services import prepared_services
from dialgraph.tools.functions import Function, FunctionTools, ToolFunctionError
from dialgraph.turn.call import CallInfo
from dialgraph.turn.node import Context, Node, Turn
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.step_place import Offer, StepPlace, Toolset, tool_name
from dialgraph.turn.templates import Folders
from dialgraph.validation import nearest


class _Begun(TypedDict, total=False):
    """The input of a run on the server. It carries no messages, because the Turn has them."""

    messages: Annotated[list[Any], UntrackedValue]


class CompiledGraph(CompiledStateGraph[Any, Context, Any, Any]):
    """A LangGraph graph that also runs without the server: a run without a Turn gets one."""

    spec: Graph
    """The graph that it was compiled from."""
    uses: tuple[tuple[str, str, str], ...] = ()
    """The names from the settings that it uses: (step, kind, name). The step is `policy` for those of the policy."""
    outlets: Outlets
    """What the words of the graph must pass."""
    in_sequence: CompiledStateGraph[Any, Context, Any, Any] | None = None
    """The same graph with all steps in one LangGraph node; None if two steps can run at the same time."""

    async def serve(self, turn: Turn) -> None:
        """Run the graph for a turn whose line is connected. Raise what a step raises."""
        context: Any = turn
        options: Any = {"recursion_limit": MOST_STEPS}
        if self.stores:
            with suppress(StoreError):
                await turn.services.warm_stores(self.stores)
        if self.in_sequence is None:
            await self.ainvoke({"messages": []}, options, context=context)
            await turn.line.drain()
            return
        await self.in_sequence.ainvoke({"messages": []}, options, context=context)

    async def astream(
        self,
        input: Any,  # noqa: A002 (LangGraph's name)
        config: RunnableConfig | None = None,
        *,
        context: Any = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        """Run the graph and stream its output, as LangGraph does. `context` is a Turn on the server.

        Elsewhere `context` is a Context, its JSON data, or None. An input begins a new turn, which clears what the last
        turn left in the state. Without an input, a run that stopped continues.
        """
        recorder = records = None
        failure: BaseException | None = None
        if isinstance(context, Turn):
            turn, owned = context, False
        else:
            # Without this, the first search would exceed the time limit of its step. The server does it when it starts.
            services = await prepared_services()
            with suppress(StoreError):  # the step that searches reports the error itself
                await services.warm_stores(self.stores)
            asked, owned = _asked_of(context, config, self.spec.name), True
            memory = self.spec.policy.memory
            records = records_of(services)
            recorder = records.recorder(asked, REAL, memory.private if memory else ())
            turn = recorder.turn(services) if recorder else Turn(services, asked)
            if isinstance(input, Mapping):
                input = {**cleared(self.channels), **input}  # noqa: A001
        try:
            stream = cast(AsyncGenerator[Any, None], super().astream(input, config, context=cast(Any, turn), **options))
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    yield chunk
        except BaseException as error:
            failure = error
            raise
        finally:
            if recorder is not None and records is not None:
                recorder.request = turn.asked
                end = local_end(turn.times, outcome_of(failure), REAL.now())
                records.over(recorder, end, turn.times.started, self.version, self.outlets.private_words)
            if owned:
                await turn.aclose()

    def stream(
        self,
        input: Any,  # noqa: A002 (LangGraph's name)
        config: RunnableConfig | None = None,
        **options: Any,
    ) -> Iterator[Any]:
        """Do the same as `astream` for a script without an event loop. `invoke` uses it."""
        return in_background(lambda: self.astream(input, config, **options))

    def copy(self, update: dict[str, Any] | None = None) -> "CompiledGraph":
        """Return a copy with these attributes changed, such as the `checkpointer`."""
        copied = super().copy(update)
        copied.spec, copied.uses, copied.outlets = self.spec, self.uses, self.outlets
        copied.in_sequence = self.in_sequence
        return copied

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Return the drawing that a notebook shows. It needs no network."""
        return {"image/svg+xml": draw(self.spec), "text/plain": repr(self)}

    def get_input_jsonschema(self, config: RunnableConfig | None = None) -> dict[str, Any]:
        """Return the schema of the input as Studio shows it: the messages. Other keys of the state are accepted too."""
        return TypeAdapter(Input).json_schema()

    @cached_property
    def version(self) -> str:
        """Return a hash of the graph: 16 hexadecimal digits."""
        return hashlib.blake2b(self.spec.to_json().encode(), digest_size=8).hexdigest()

    @cached_property
    def stores(self) -> list[str]:
        """Return the names of the stores that the steps search."""
        return [name for _, kind, name in self.uses if kind == "store"]


def compile_graph(
    spec: Graph,
    nodes: Iterable[Node] = (),
    *,
    tools: Sequence[Function] = (),
    checks: Mapping[str, Check] | None = None,
    folder: Path | None = None,
) -> CompiledGraph:
    """Compile the graph, so that it is ready to run. Raise GraphError with every mistake of the graph, one per line.

    A step can run the nodes in `nodes/`, those in the folder `nodes` beside the author's folder `graphs`, and these
    `nodes`. A model may call the `tools`. The guard may use the `checks`.

    The files of instructions and templates are looked for in `folder`, by default the folder of the file that calls
    this function, in the folders `templates` there and beside it, and in `nodes/templates`.
    """
    _check_arguments(spec, checks)
    author = sys._getframe(1).f_globals  # the file that calls this function
    beside = folder or Path(author.get("__file__") or "").parent
    folders = (beside, beside / "templates", beside.parent / "templates", template_folder())
    given = [*nodes, *(step.function for step in spec.steps if step.function is not None)]
    own = {**project_nodes(author.get("__name__", "")), **{node.name: node for node in given}}
    known = {**plugin_nodes(), **catalogue(), **own}
    if found := mistakes(spec, known, checks or {}, folders):
        sentences = [f"{one.place}{': ' if one.place else ''}graph {spec.name!r}, {one.what}" for one in found]
        places = ["" if one.place else _place_of(spec, one.what) for one in found]
        raise GraphError("\n".join(sentences), places)
    try:
        functions = FunctionTools(tools)
    except ToolFunctionError as error:
        wrong = f"graph {spec.name!r}, {error}"
        raise GraphError(f"{error.place}: {wrong}" if error.place else wrong, [""] if error.place else ()) from None
    steps = [_wrap(spec, at, known, folders) for at in range(len(spec.steps))]
    if found_tools := [*_tool_mistakes(spec, steps, functions)]:
        raise GraphError(
            "\n".join(f"graph {spec.name!r}, {one}" for one in found_tools), [spec.place] * len(found_tools)
        )
    outlets = Outlets(spec.policy, checks or {}, sounds=any(step.node.sounds for step in steps))
    prepare = Preparation(spec, outlets, functions)
    studio = StudioSteps(prepare, steps)
    declared = {key for step in steps for key in (*step.node.reads, *step.node.may_read, *step.node.writes)}
    state, output = state_types(declared, memory=spec.policy.memory is not None)
    builder = StateGraph(state, context_schema=Context, output_schema=output)
    uses = [("policy", kind, name) for kind, name in outlets.uses]
    for at, step in enumerate(steps):
        used = _uses(step, functions)
        uses += [(step.step.id, kind, name) for kind, name in used]
        metadata = {"summary": step.node.summary, "options": dict(step.step.options), "uses": used}
        builder.add_node(step.step.id, _action(step.step.id, studio), defer=step.step.waits, metadata=metadata)
        _add_edges(builder, spec, at, step)
    builder.add_edge(START, steps[0].step.id)
    compiled = builder.compile(name=spec.name)
    # LangGraph copies a graph in this way too; here the copy gets our class.
    graph = CompiledGraph(**vars(compiled))
    graph.spec, graph.uses, graph.outlets = spec, tuple(uses), outlets
    if runs_in_sequence(spec):
        graph.in_sequence = _in_one_node(StepSequence(spec, steps), prepare, spec.name)
    return graph


def _check_arguments(spec: object, checks: object) -> None:
    """Raise GraphError for arguments of `compile_graph` of another type."""
    if not isinstance(spec, Graph):
        raise GraphError(f"compile_graph: it takes a Graph, not {type(spec).__name__}.")
    if checks is not None and not isinstance(checks, Mapping):
        raise GraphError(
            f"graph {spec.name!r}: `checks` must be a table {{name: function}}, not {type(checks).__name__}."
        )
    for name, check in (checks or {}).items():
        takes_one = callable(check) and not inspect.iscoroutinefunction(check)
        if takes_one:
            try:
                inspect.signature(check).bind("a sentence")
            except TypeError:
                takes_one = False
            except ValueError:  # a function of Python's own has no signature
                pass
        if not takes_one:
            accepted = "a plain function that takes a sentence and returns the sentence to speak, or None to drop it"
            raise GraphError(f"graph {spec.name!r}: the check {name!r} must be {accepted}.")


def _tool_mistakes(spec: Graph, steps: Sequence[WrappedStep], functions: FunctionTools) -> Iterator[str]:
    """Yield the mistakes of the tools: those that no step runs or that do not exist, and names that are taken."""
    running = [step for step in steps if step.node.offers_tools]
    if functions.names and not running:
        yield f"tools: no step runs {functions.names[0]!r}. Add the step `run_tools`."
    for step in running:
        if not functions.names and not step.options["servers"]:
            yield f"step {step.step.id!r}: it has no tools. Write `compile_graph(…, tools=[…])`, or set `servers`."
        elif not step.options["servers"]:
            for name in step.options["only"]:
                if name not in functions.names:
                    near = nearest(name, functions.names)
                    accepted = ", ".join(map(repr, functions.names))
                    yield f"step {step.step.id!r}: there is no tool {name!r}. {near}Accepted: {accepted}."
    offered = {name for step in steps for name in step.place.offered}
    for name in functions.names:
        if name in offered:
            yield f"tool {name!r}: a step offers a tool of this name already. Give the function another name."


def _in_one_node(sequence: StepSequence, prepare: Preparation, name: str) -> CompiledStateGraph[Any, Context, Any, Any]:
    """Put all steps into one LangGraph node, because each node costs a quarter of a millisecond.

    For the measurement see benchmarks/README.md.
    """

    async def run(state: dict[str, Any], runtime: Runtime[Context]) -> dict[str, Any]:
        turn = cast(Turn, runtime.context)
        prepare.attach(turn)
        await sequence.run(state, turn)
        await turn.line.drain()
        return {}

    builder = StateGraph(_Begun, context_schema=Context)
    builder.add_node("turn", cast(Any, run))
    builder.add_edge(START, "turn")
    builder.add_edge("turn", LANGGRAPH_END)
    return builder.compile(name=name)


def _wrap(spec: Graph, at: int, nodes: Mapping[str, Node], folders: Folders) -> WrappedStep:
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
    place = StepPlace(step.id, offered, toolset, tuple(routes), spec.instructions, folders)
    return WrappedStep(step, node, read_options(step, node), place)


def _place_of(spec: Graph, mistake: str) -> str:
    """Return where the step of a mistake is declared, or else the graph."""
    return next((step.place for step in spec.steps if mistake.startswith(f"step {step.id!r}")), spec.place)


def _uses(step: WrappedStep, functions: FunctionTools) -> list[tuple[str, str]]:
    """Return the names from the settings that a step uses, as (kind, name)."""
    used = [(kind, name) for option, kind in step.node.uses.items() for name in _names(step.options[option])]
    if step.node.needs_memory:
        used.append(("database", "main"))
    if step.node.offers_tools and functions.names:
        used.append(("tools", ", ".join(functions.names)))
    return used


def _names(option: str | Sequence[str]) -> Sequence[str]:
    return ((option,) if option else ()) if isinstance(option, str) else option


def _action(name: str, studio: StudioSteps) -> Callable[..., Any]:
    async def run(state: dict[str, Any], runtime: Runtime[Context]) -> dict[str, Any]:
        return await studio.run(name, state, runtime)

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
        label = state.get("route") or ("" if step.place.routes else LABEL_OK)
        if label in ways:
            return cast(Hashable, label)
        if label == LABEL_OK:
            return list(own)  # without a table it means all targets
        accepted = ", ".join(map(repr, ways))
        raise GraphError(f"state, 'route': {label!r} leads nowhere from step {step.step.id!r}. Accepted: {accepted}.")

    builder.add_conditional_edges(step.step.id, choose, ways)


def _target(name: str) -> str:
    return LANGGRAPH_END if name == END else name


def _asked_of(context: Any, config: RunnableConfig | None, endpoint: str) -> TurnRequest:
    """Return the request of a run that the server did not start. Its first step adds the messages."""
    context = context if isinstance(context, Context) else Context(**(context or {}))
    thread = (config or {}).get("configurable", {}).get("thread_id")
    call = CallInfo(id=context.call_id or str(thread or ""), caller_number=context.caller_number, source=context.source)
    return TurnRequest(call=call, model=context.model, profile=studio_profile(context.host), endpoint=endpoint)
