"""The whole contract of a node: what it is given (State, Turn), what it gives back (Update), how it is declared."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from typing_extensions import TypedDict

from dialgraph.profiles.profile import ActionKind
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.services import Services
from dialgraph.turn.turn import Context, Turn

__all__ = ["Context", "Node", "NodeFunction", "Services", "State", "Tool", "Turn", "TurnRequest", "Update", "node"]

GIVEN = frozenset({"messages", "question"})
"""Keys that a state has before any step has run."""


class State(TypedDict, total=False):
    """What steps hand on to each other. A node may declare further keys by naming them in `reads` or `writes`."""

    messages: list[Any]
    """The door of Studio and notebooks: LangChain messages. When we serve, the caller's travel raw on the Turn."""
    question: str
    """What is searched for: the last user text, unless a step rewrote it."""
    passages: list[Any]
    """What retrieval found, best first: `knowledge.store.Passage`."""
    prompt: list[Any]
    """The messages that go to the model; absent: the caller's."""
    tool_call: dict[str, Any]
    """The call of an offered tool that the model made: its `name` and `arguments`."""
    tool_calls: list[dict[str, str]]
    """The calls that the model made of tools that run on our side: `id`, `name` and `arguments`."""
    said: str
    """What the model said before it made them."""
    attached: dict[str, Any]
    """What came with those words beside them, such as reasoning that the provider wants back."""
    passes: int
    """How often tools have run in this turn."""
    route: str
    """Which entry of the step's `then` table comes next."""


Update = Mapping[str, object] | None
Tool = Mapping[str, object]
"""A tool as OpenAI requests declare it: `{"type": "function", "function": {…}}`."""


NodeFunction = Callable[..., Awaitable[Update]]
"""An `async def` that takes the state, the turn and its options as keyword-only parameters."""


@dataclass(frozen=True, slots=True)
class Node:
    """A declared node. Calling it calls its function, so that a test needs no graph."""

    name: str
    run: NodeFunction
    summary: str
    reads: tuple[str, ...]
    """Keys that must have been written on some path to it."""
    may_read: tuple[str, ...]
    """Keys that it uses when they are there."""
    writes: tuple[str, ...]
    routes: tuple[str, ...]
    """The routes it chooses by itself. It may also choose the table entry of a step whose offered tool was called."""
    speaks: bool
    """Whether it can reach the caller's ear; such a step is never retried."""
    uses: Mapping[str, str]
    """Options that name something of the settings, one or several: option → `model`, `store`, `voice`, `transcriber` or
    `toolbox`."""
    offers: Callable[..., Tool] | None
    """The tool by which a model can ask for this step, made from the step's options and the memory's `slots`."""
    action: ActionKind | None
    """What it does with the call; a host may have a tool of its own for it."""
    needs_memory: bool
    """Whether the graph's policy must declare a memory."""
    sounds: bool
    """Whether it makes its endpoint one that answers in sound."""
    offers_tools: bool
    """Whether it runs tools for the model; its options `servers`, `only` and `passes` say which and how often."""
    options: type[BaseModel]

    def __call__(self, state: State, turn: Turn, **options: Any) -> Awaitable[Update]:
        return self.run(state, turn, **options)


def node(
    *,
    reads: str | Sequence[str] = (),
    may_read: str | Sequence[str] = (),
    writes: str | Sequence[str] = (),
    routes: Sequence[str] = (),
    speaks: bool = False,
    uses: Mapping[str, str] | None = None,
    offers: Callable[..., Tool] | None = None,
    action: ActionKind | None = None,
    sounds: bool = False,
    offers_tools: bool = False,
    needs_memory: bool = False,
) -> Callable[[NodeFunction], Node]:
    """Declare a function as a node: keyword-only parameters are its options, its docstring's first line its summary."""

    def declare(function: NodeFunction) -> Node:
        documentation = inspect.getdoc(function) or ""
        return Node(
            name=function.__name__,
            run=function,
            summary=documentation.partition("\n")[0],
            reads=_names(reads),
            may_read=_names(may_read),
            writes=_names(writes),
            routes=tuple(routes),
            speaks=speaks,
            uses=uses or {},
            offers=offers,
            action=action,
            offers_tools=offers_tools,
            needs_memory=needs_memory,
            sounds=sounds,
            options=_options_of(function),
        )

    return declare


def _names(keys: str | Sequence[str]) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else tuple(keys)


def _options_of(function: NodeFunction) -> type[BaseModel]:
    """A pydantic model of the keyword-only parameters: it validates them and lists them in the JSON Schema."""
    fields: dict[str, Any] = {}
    hints = inspect.get_annotations(function, eval_str=True)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[parameter.name] = (Annotated[hints.get(parameter.name, Any), Field()], default)
    return create_model(
        f"{function.__name__}_options",
        __config__=ConfigDict(extra="forbid", frozen=True, strict=True),
        **fields,
    )
