"""The state of a graph in LangGraph: its keys, which of them a new turn clears, and their form as JSON data.

A run that stops between two steps continues from this state alone, also in another process. So everything that a later
step needs is in it, and every value is JSON data, which a checkpointer can store and an author can edit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Annotated, Any, Generic, cast

from langchain_core.messages import AnyMessage, BaseMessage
from langgraph.channels import LastValue
from langgraph.channels.base import BaseChannel, Value
from langgraph.errors import EmptyChannelError
from langgraph.graph import add_messages
from typing_extensions import TypedDict

from dialgraph.graph.errors import GraphError
from dialgraph.passages import Passage

PART = "part"
"""In the metadata of the assistant's message: how many steps have added to it."""
_NO_VALUE: Any = LastValue(object).value


class CallValue(LastValue[Value]):
    """A key that keeps its last value, also in the next turn. None removes the value."""

    def update(self, values: Sequence[Value]) -> bool:
        """Take the last value. Two steps of one graph that could write different values are refused before it runs."""
        if values:
            self.value = _NO_VALUE if values[-1] is None else values[-1]
        return bool(values)


class TurnValue(CallValue[Value]):
    """A key that keeps its last value until the next turn."""


class TurnLog(Generic[Value], BaseChannel[list[Value], list[Value] | None, list[Value]]):
    """A key that collects the entries of all steps of the turn. None removes them."""

    __slots__ = ("entries",)

    def __init__(self, typ: Any, key: str = "") -> None:
        super().__init__(typ, key)
        self.entries: list[Value] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TurnLog)

    __hash__ = None  # type: ignore[assignment]  # as LangGraph's own channels

    @property
    def ValueType(self) -> Any:  # noqa: N802 (LangGraph's name)
        """Return the type of the value."""
        return self.typ

    @property
    def UpdateType(self) -> Any:  # noqa: N802 (LangGraph's name)
        """Return the type of an update."""
        return self.typ

    def copy(self) -> "TurnLog[Value]":
        """Return a copy."""
        return self.from_checkpoint(self.entries)

    def checkpoint(self) -> list[Value]:
        """Return what a checkpointer stores."""
        return list(self.entries)

    def from_checkpoint(self, checkpoint: Any) -> "TurnLog[Value]":
        """Return the key as it was stored."""
        made = TurnLog[Value](self.typ, self.key)
        made.entries = list(checkpoint) if isinstance(checkpoint, list) else []
        return made

    def update(self, values: Sequence[list[Value] | None]) -> bool:
        """Add the entries."""
        for value in values:
            self.entries = [] if value is None else [*self.entries, *value]
        return bool(values)

    def get(self) -> list[Value]:
        """Return all entries."""
        if not self.entries:
            raise EmptyChannelError
        return list(self.entries)

    def is_available(self) -> bool:
        """Return whether there is an entry."""
        return bool(self.entries)


def join_messages(left: Any, right: Any) -> Any:
    """Add messages as LangGraph does. Of two versions of one answer keep the later one.

    Two steps that run at the same time add to the same answer, and LangGraph applies their updates in any order.
    """
    newest = {one.id: _part(one) for one in left or () if isinstance(one, BaseMessage)}
    new = right if isinstance(right, list) else [right]
    kept = [one for one in new if not (_part(one) and _part(one) < newest.get(one.id, 0))]
    return add_messages(left, kept)


def _part(message: object) -> int:
    part = message.response_metadata.get(PART) if isinstance(message, BaseMessage) else None
    return part if isinstance(part, int) else 0


class FoundPassage(TypedDict, total=False):
    """A passage that a search found. An edited passage needs only its text."""

    text: str
    document: str
    page: int | None
    heading: str
    score: float
    start: int
    end: int


class ToolCall(TypedDict, total=False):
    """A call of a tool, as the model made it."""

    id: str
    name: str
    arguments: str
    extra: dict[str, Any]


class ToolResult(TypedDict):
    """What a tool returned to the model."""

    id: str
    name: str
    result: str


class StepRecord(TypedDict, total=False):
    """How a step ended: `ok`, `timeout` or `error`, and its times in milliseconds since the run began."""

    step: str
    outcome: str
    started_ms: float
    ended_ms: float


class TurnIdentity(TypedDict):
    """The ids of the turn."""

    message_id: str
    """The id of the assistant's message that the turn gives."""
    key: str
    """See `dialgraph.turn.turn.Turn.key`."""


class LineState(TypedDict):
    """What the caller has heard: anything, and words that are no filler."""

    spoken: bool
    answered: bool


Message = dict[str, Any]
Messages = Annotated[list[AnyMessage], join_messages]


class Input(TypedDict, total=False):
    """The input that Studio shows: the new messages of the conversation."""

    messages: Messages


KEYS: Mapping[str, Any] = {
    "messages": Messages,
    "question": Annotated[str, TurnValue],
    "passages": Annotated[list[FoundPassage], TurnValue],
    "prompt": Annotated[list[Message], TurnValue],
    "route": Annotated[str, TurnValue],
    "tool_call": Annotated[ToolCall, TurnValue],
    "tool_calls": Annotated[list[ToolCall], TurnValue],
    "tool_results": Annotated[list[ToolResult], TurnValue],
    "said": Annotated[str, TurnValue],
    "tail": Annotated[str, TurnValue],
    "attached": Annotated[dict[str, Any], TurnValue],
    "passes": Annotated[int, TurnValue],
    "built": Annotated[list[Message], TurnValue],
    "conversation": Annotated[list[Message], TurnValue],
    "slots": Annotated[dict[str, Any], CallValue],
    "stage": Annotated[str, CallValue],
    "problems": Annotated[dict[str, str], TurnValue],
    "steps": Annotated[list[StepRecord], TurnLog],
    "waiting": Annotated[str, TurnValue],
    "left_out": Annotated[list[str], TurnValue],
    "recorded": Annotated[list[str | None], TurnValue],
    "line": Annotated[LineState, TurnValue],
    "turn": Annotated[TurnIdentity, TurnValue],
}
"""The keys that are known, with their types. A new turn clears all but `messages`, `slots` and `stage`."""
_ALWAYS = (
    "messages", "question", "route", "conversation", "steps", "waiting", "left_out", "recorded", "line", "turn",
)  # fmt: skip
_MEMORY = ("slots", "stage", "problems")
HIDDEN = frozenset({"built", "conversation", "line", "recorded", "tail", "turn", "waiting"})
"""Keys that only this package reads. They are stored, but they are not part of the output."""


def state_types(declared: Iterable[str], *, memory: bool) -> tuple[type[Any], type[Any]]:
    """Return the types of the state and of its output, for a graph whose nodes declare these keys.

    An author adds a key just by declaring it on a node.
    """
    names = dict.fromkeys([*_ALWAYS, *(_MEMORY if memory else ()), *sorted(declared)])
    keys = {name: KEYS.get(name, Annotated[Any, TurnValue]) for name in names}
    return _typed("State", keys), _typed("Output", {name: keys[name] for name in keys if name not in HIDDEN})


def _typed(name: str, keys: Mapping[str, Any]) -> type[Any]:
    return cast("type[Any]", cast(Any, TypedDict)(name, keys, total=False))


def cleared(channels: Mapping[str, object]) -> dict[str, None]:
    """Return an update that clears what belongs to the last turn."""
    return {key: None for key, channel in channels.items() if isinstance(channel, TurnValue | TurnLog)}


def as_json(update: Mapping[str, Any]) -> dict[str, Any]:
    """Return the update of a step with its passages as JSON data."""
    found = update.get("passages")
    if not found:
        return dict(update)
    return {**update, "passages": [asdict(one) if isinstance(one, Passage) else one for one in found]}


def from_json(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state as steps read it. Raise GraphError for a value that an author has edited to a wrong form."""
    values = dict(state)
    if not isinstance(values.get("question", ""), str):
        raise GraphError(f"state, 'question': {values['question']!r} is not accepted. Accepted: a text.")
    prompt = values.get("prompt", [])
    if not isinstance(prompt, list) or not all(isinstance(one, Mapping) and "role" in one for one in prompt):
        raise GraphError("state, 'prompt': accepted is a list of OpenAI messages, such as {'role': …, 'content': …}.")
    if "passages" in values:
        values["passages"] = _passages(values["passages"])
    return values


def _passages(given: object) -> list[Passage]:
    names = [one.name for one in fields(Passage)]
    found = []
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, Passage):
            found.append(one)
            continue
        if not isinstance(one, Mapping) or not isinstance(one.get("text"), str) or one.keys() - set(names):
            accepted = ", ".join(map(repr, names))
            raise GraphError(f"state, 'passages': accepted is a list of objects with a 'text'. Their keys: {accepted}.")
        found.append(Passage(**{"document": "", "heading": "", "score": 1.0, **one}))
    return found
