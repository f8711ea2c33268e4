"""The contract of a node: what it gets (State, Turn), what it returns (Update), and how it is declared."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, overload

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticSchemaGenerationError
from typing_extensions import TypedDict

from dialgraph.profiles.profile import ActionKind
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.services import Services
from dialgraph.turn.turn import Context, Turn
from dialgraph.validation import nearest

__all__ = ["Context", "Node", "NodeFunction", "Services", "State", "Tool", "Turn", "TurnRequest", "Update", "node"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_GIVEN_PARAMETERS = ("state", "turn")
GIVEN = frozenset({"messages", "question"})
"""The keys that a state has before any step has run."""


class State(TypedDict, total=False):
    """What steps pass to each other. A node can declare more keys by naming them in `reads` or `writes`."""

    messages: list[Any]
    """The LangChain messages of Studio and notebooks. On the server the request's messages are on the Turn instead."""
    question: str
    """The text to search for: the last user text, unless a step rewrote it."""
    passages: list[Any]
    """The passages that a search found, best first: `dialgraph.passages.Passage`."""
    prompt: list[Any]
    """The messages for the model. Absent: the step that asks the model builds them, and writes here what it sent."""
    built: list[Any]
    """The prompt that the asking step built itself. If `prompt` still equals it, the next call builds a new one."""
    tool_call: dict[str, Any]
    """The model's call of an offered tool: its `name` and `arguments`."""
    tool_calls: list[dict[str, str]]
    """The model's calls of tools that run on this server: `id`, `name` and `arguments` of each."""
    tool_results: list[dict[str, str]]
    """What these tools returned: `id`, `name` and `result` of each."""
    said: str
    """What the model said before it made these calls."""
    tail: str
    """The last character that the model said, if tools have run: it separates the next words from these."""
    attached: dict[str, Any]
    """What the provider sent with those words, such as reasoning that it wants back."""
    passes: int
    """How many times tools have run in this turn."""
    route: str
    """The entry of the step's `then` table that comes next."""


Update = Mapping[str, object] | None
Tool = Mapping[str, object]
"""A tool in the form of OpenAI requests: `{"type": "function", "function": {…}}`."""


NodeFunction = Callable[..., Awaitable[Update]]
"""An `async def` that takes the state, the turn, and its options as keyword-only parameters."""


class NodeError(TypeError):
    """A function cannot be a node. The message says why and what is accepted."""


@dataclass(frozen=True, slots=True)
class Node:
    """A declared node. Calling it calls its function, so a test needs no graph."""

    name: str
    run: NodeFunction
    summary: str
    reads: tuple[str, ...]
    """The keys that must be written on at least one path to it."""
    may_read: tuple[str, ...]
    """The keys that it uses if they exist."""
    writes: tuple[str, ...]
    routes: tuple[str, ...]
    """The routes that it chooses itself. It may also choose the entry of a step whose offered tool was called."""
    speaks: bool
    """Whether the caller can hear something from it. Such a step is never retried."""
    uses: Mapping[str, str]
    """The options that hold one or more names from the settings: option → `model`, `store`, `voice`, `transcriber` or
    `toolbox`."""
    offers: Callable[..., Tool] | None
    """Returns the tool with which a model can ask for this step, from the step's options and the memory's `slots`."""
    action: ActionKind | None
    """What it does with the call. A host may have its own tool for it."""
    needs_memory: bool
    """Whether the policy of the graph must declare a memory."""
    sounds: bool
    """Whether it makes sound, so that its endpoint answers in sound."""
    offers_tools: bool
    """Whether it runs tools for the model. Its options `servers`, `only` and `passes` say which ones and how often."""
    templates: tuple[str, ...]
    """The options that hold a template of a prompt, which is checked before the graph runs."""
    options: type[BaseModel]

    def __call__(self, state: State, turn: Turn, **options: Any) -> Awaitable[Update]:
        return self.run(state, turn, **options)


@overload
def node(function: NodeFunction, /) -> Node: ...


@overload
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
    templates: str | Sequence[str] = (),
) -> Callable[[NodeFunction], Node]: ...


def node(
    function: NodeFunction | None = None,
    /,
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
    templates: str | Sequence[str] = (),
    **unknown: object,
) -> Node | Callable[[NodeFunction], Node]:
    """Declare a function as a node: `@node`, or `@node(…)` with fields of `Node` as its arguments.

    The function takes the state and the turn. Its keyword-only parameters are the options, and the first line of its
    docstring is the summary. Raises NodeError for another signature, an option without a type, and a key that is no
    text.
    """

    if unknown:
        known = [name for name in inspect.signature(node).parameters if name not in ("function", "unknown")]
        accepted = ", ".join(map(repr, known))
        raise NodeError(
            f"@node has no {next(iter(unknown))!r}. {nearest(next(iter(unknown)), known)}Accepted: {accepted}."
        )

    def declare(function: NodeFunction) -> Node:
        if not inspect.isfunction(function):
            raise NodeError(f"@node must be placed above an `async def`, not above {type(function).__name__}.")
        documentation = inspect.getdoc(function) or ""
        return Node(
            name=function.__name__,
            run=function,
            summary=documentation.partition("\n")[0],
            reads=_names(reads),
            may_read=_names(may_read),
            writes=_names(writes),
            routes=_names(routes),
            speaks=speaks,
            uses=uses or {},
            offers=offers,
            action=action,
            offers_tools=offers_tools,
            needs_memory=needs_memory,
            sounds=sounds,
            templates=_names(templates),
            options=_options_of(function),
        )

    return declare if function is None else declare(function)


def _names(keys: str | Sequence[str]) -> tuple[str, ...]:
    given: object = (keys,) if isinstance(keys, str) else keys  # an author may give anything
    if not isinstance(given, Sequence) or not all(isinstance(key, str) for key in given):
        raise NodeError(f"@node: {keys!r} must be the name of a key, or a list of such names.")
    if odd := [key for key in given if not key.isidentifier()]:
        raise NodeError(
            f"@node: {odd[0]!r} cannot be a name. Accepted: letters, digits and `_`, a list for several names."
        )
    return tuple(given)


def _options_of(function: NodeFunction) -> type[BaseModel]:
    """Return a pydantic model of the keyword-only parameters. It validates the options and gives their JSON Schema."""
    fields: dict[str, Any] = {}
    hints = inspect.get_annotations(function, eval_str=True)
    parameters = inspect.signature(function).parameters.values()
    positional = [one.name for one in parameters if one.kind in _POSITIONAL]
    where = f"node {function.__name__!r}"
    if len(positional) < len(_GIVEN_PARAMETERS):
        accepted = f"`async def {function.__name__}(state: State, turn: Turn)`"
        raise NodeError(f"{where}: it must take the state and the turn. Accepted: {accepted}, then `*` and options.")
    if positional[:2] == ["turn", "state"]:
        raise NodeError(f"{where}: the state comes before the turn: `async def {function.__name__}(state, turn)`.")
    if len(positional) > len(_GIVEN_PARAMETERS):
        raise NodeError(f"{where}: put `*` before the option {positional[2]!r}: options have names.")
    for parameter in parameters:
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise NodeError(f"{where}: name every option instead of `{parameter}`.")
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            if parameter.name not in hints:
                raise NodeError(f"{where}: the option {parameter.name!r} has no type.")
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[parameter.name] = (Annotated[hints[parameter.name], Field()], default)
    try:
        return create_model(
            f"{function.__name__}_options",
            __config__=ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True),
            **fields,
        )
    except PydanticSchemaGenerationError as error:
        accepted = "`str`, `int`, `float`, `bool`, `list`, `dict`, `Literal`, an enum, a pydantic model"
        raise NodeError(f"{where}: an option has a type that no graph can give. Accepted: {accepted}.") from error
