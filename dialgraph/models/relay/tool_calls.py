"""The tool calls of one answer, put together from the fragments that servers send.

Servers number every call 0, leave out index or id, repeat them, send the name late or in pieces, arguments as an
object, whole calls in one fragment, or the whole arguments again at the end. So a call is identified by index, id and
name together, and by whether the call before it is complete. Calls are passed on whole, at the end, because no host
acts on a partial call.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import orjson

from dialgraph.environment import Environment
from dialgraph.models.parts import ToolCallPart

MAX_TOOL_CALLS: Final = 128
MAX_ARGUMENT_CHARACTERS: Final = 1_048_576
_MOST_REPEATS: Final = 8
_OWN: Final = frozenset({"index", "id", "type", "function", "name", "arguments"})


class ToolCallError(ValueError):
    """The tool calls of an answer are invalid. The message quotes nothing of the answer."""


@dataclass(slots=True)
class _Call:
    index: int | None
    id: str
    name: str
    pieces: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    @property
    def begun(self) -> bool:
        """Return whether the call has any content. An empty fragment after a call has none."""
        return bool(self.name or self.arguments.strip())

    @property
    def complete(self) -> bool:
        """Return whether the arguments so far are a JSON object."""
        return any(self.pieces) and isinstance(_value(self.arguments), dict)


class ToolCalls:
    """The calls of one answer."""

    def __init__(self, declared: frozenset[str], environment: Environment) -> None:
        """`declared`: the names of the tools that the request offers. They distinguish a name from a piece of one."""
        self._declared = declared
        self._environment = environment
        self._calls: list[_Call] = []
        self._size = 0

    def __bool__(self) -> bool:
        return any(call.begun for call in self._calls)

    def add(self, given: object) -> bool:
        """Add `tool_calls` of a delta. Return whether it was readable. Raise ToolCallError if there are too many."""
        fragments = [given] if isinstance(given, Mapping) else given
        if not isinstance(fragments, Sequence) or isinstance(fragments, str):
            return False
        known = [fragment for fragment in fragments if isinstance(fragment, Mapping)]
        for fragment in known:
            self._take(fragment)
        return bool(known)

    def add_legacy(self, given: object) -> bool:
        """Add `function_call` of a delta, the form before `tool_calls`. It is always one call."""
        if not isinstance(given, Mapping):
            return False
        self._take({"index": 0, "function": given})
        return True

    def whole(self, *, cut: bool) -> Iterator[ToolCallPart]:
        """Yield the calls, in order. `cut`: the answer was cut for its length; then leave out the incomplete call.

        Raise ToolCallError.
        """
        ids: set[str] = set()
        whole: list[_Call] = []
        for call in self._calls:
            if not call.begun or any(_is_tail(call, earlier) for earlier in whole):
                continue
            whole.append(call)
            arguments = _settled(call.pieces)
            try:
                name = self._name(call)
                if arguments is None:
                    raise ToolCallError("the arguments of a tool call are not valid JSON")
            except ToolCallError:
                if cut:
                    continue
                raise
            identity = call.id if call.id and call.id not in ids else self._environment.id("call_", 24)
            number = len(ids)
            ids.add(identity)
            yield ToolCallPart(number, identity, name, arguments, call.extra)

    def _take(self, fragment: Mapping[str, Any]) -> None:
        function = fragment.get("function")
        if not isinstance(function, Mapping):
            function = fragment
        index, identity = _index(fragment.get("index")), fragment.get("id")
        identity = identity if isinstance(identity, str) else ""
        name = function.get("name")
        name = name if isinstance(name, str) else ""
        arguments = _text(function.get("arguments"))
        self._size += len(arguments)
        if self._size > MAX_ARGUMENT_CHARACTERS:
            raise ToolCallError("the arguments of tool calls are too long")
        call = self._begun(index, identity, name, arguments)
        if call is None:
            if len(self._calls) == MAX_TOOL_CALLS:
                raise ToolCallError(f"more than {MAX_TOOL_CALLS} tool calls")
            call = _Call(index, identity, name)
            self._calls.append(call)
        elif not call.name:
            call.name = name
        elif name != call.name and not any(call.pieces):
            call.name += name
        call.id = call.id or identity
        call.pieces.append(arguments)
        call.extra |= {key: value for key, value in fragment.items() if key not in _OWN and value is not None}

    def _begun(self, index: int | None, identity: str, name: str, arguments: str) -> _Call | None:
        """Return the call that a fragment continues; None if the fragment begins a new one."""
        call = self._candidate(index, identity, name)
        if call is None:
            return None
        another = bool(identity and call.id and identity != call.id)
        if not name:
            return None if another and call.complete else call
        if another:
            return None
        if not call.name or (name == call.name and not call.complete):
            return call
        if any(call.pieces):
            if name != call.name:
                return None
            if arguments == call.arguments:
                call.pieces = []
                return call
            return call if identity and arguments.strip() in ("", "{}") else None
        joined = call.name + name
        if self._declared and joined not in self._declared:
            return None if call.name in self._declared else call
        return call

    def _candidate(self, index: int | None, identity: str, name: str) -> _Call | None:
        if not self._calls:
            return None
        latest = self._calls[-1]
        if index is not None:
            found = [call for call in self._calls if call.index == index]
            if not found and not name and identity and identity == latest.id:
                return latest  # a server that counts fragments, not calls
            return found[-1] if found else None
        if identity:
            found = [call for call in self._calls if call.id == identity]
            return found[-1] if found else (latest if not name and not latest.complete else None)
        return latest

    def _name(self, call: _Call) -> str:
        """Return the tool's name, without leftovers of a model's own format. Raise ToolCallError."""
        name = call.name.partition("<|")[0].strip()
        if not name:
            raise ToolCallError("a tool call has no name")
        if not self._declared or name in self._declared:
            return name
        last = name.rpartition(".")[2]  # `functions.weather`
        if last in self._declared:
            return last
        if any(known.startswith(name) for known in self._declared):
            raise ToolCallError("a tool call ends in the middle of its name")
        return name


def _index(given: object) -> int | None:
    if isinstance(given, str) and given.isdecimal() and len(given) < 10:
        return int(given)
    return given if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else None


def _text(arguments: object) -> str:
    """Return the arguments as JSON text. Some servers send an object instead."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else orjson.dumps(arguments).decode()


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _is_tail(call: _Call, earlier: _Call) -> bool:
    """Return whether the call only repeats the name of an earlier, complete call."""
    return call.name == earlier.name and not call.arguments.strip() and earlier.complete and call.id in ("", earlier.id)


def _settled(pieces: Sequence[str]) -> str | None:
    """Return the arguments as JSON text; None if they are not valid JSON.

    Repeated whole arguments count once, and an empty object next to them is ignored. Some servers send all the
    arguments so far in each fragment.
    """
    arguments = "".join(pieces)
    if not arguments.strip():
        return "{}"
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        told = [piece for piece in pieces if piece]
        growing = len(told) > 1 and all(later.startswith(earlier) for earlier, later in pairwise(told))
        return _settled(told[-1:]) if growing else _repeated(arguments)
    if isinstance(value, str) and isinstance(_value(value), dict):
        return value  # JSON text within JSON text
    return "{}" if value is None else arguments


def _repeated(arguments: str) -> str | None:
    """Return the one JSON value that the text repeats, without empty objects; None if the values differ."""

    decoder, at = json.JSONDecoder(), 0
    texts: list[str] = []
    values: list[Any] = []
    while at < len(arguments) and len(values) < _MOST_REPEATS:
        try:
            value, end = decoder.raw_decode(arguments, at)
        except (ValueError, RecursionError):
            return None
        if value != {}:
            values.append(value)
            texts.append(arguments[at:end])
        at = end + len(arguments[end:]) - len(arguments[end:].lstrip())
    if at < len(arguments) or any(value != values[0] for value in values):
        return None
    return texts[0] if texts else "{}"
