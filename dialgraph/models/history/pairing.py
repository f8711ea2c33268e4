"""Tool calls and their results, put together; and rows of an assistant's messages made one."""

from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from dialgraph.models.history.text import text_of

Message = Mapping[str, object]

NO_RESULT: Final = "The call was interrupted before there was a result."


def modern(messages: Sequence[Message]) -> Iterator[Message]:
    """Calls and results in the form before tools become calls and results; only an assistant makes calls."""
    waiting: dict[str, None] = {}
    named: dict[str, deque[str]] = {}
    for number, message in enumerate(messages):
        role, call = message.get("role"), message.get("function_call")
        message = {key: value for key, value in message.items() if key not in ("function_call", "tool_calls")}
        calls = _as_list(messages[number].get("tool_calls")) if role == "assistant" else []
        if calls:
            yield {**message, "tool_calls": calls}
        elif isinstance(call, Mapping) and role == "assistant":
            identity = f"legacy{number:03}"
            waiting[identity] = None
            named.setdefault(_key(call.get("name")), deque()).append(identity)
            yield {**message, "tool_calls": [{"id": identity, "type": "function", "function": call}]}
        elif role == "function" and waiting:
            same = named.get(_key(message.get("name")), deque())
            while same and same[0] not in waiting:
                same.popleft()
            answered = same[0] if same else next(iter(waiting))
            del waiting[answered]
            yield {"role": "tool", "tool_call_id": answered, "content": message.get("content")}
        elif role != "function":
            yield message


def paired(messages: Sequence[Message]) -> Iterator[Message]:
    """Every tool call has one result right behind it; results of no call are left out.

    Ids are not unique: some servers begin anew with each answer, or give none. A result belongs to the call of its id
    that came last before it; the last of several counts, the first was perhaps "pending".
    """
    answers = _answers(messages)
    for at, message in enumerate(messages):
        if message.get("role") == "tool":
            continue
        calls = _calls_of(message)
        message = {key: value for key, value in message.items() if key != "tool_calls"}
        whole: dict[str, Mapping[str, Any]] = {}
        results: list[Message] = []
        for number, call in enumerate(calls):
            found = answers[at][_key(call.get("id"))].next()
            if (one := _whole_call(call, f"call_{at}x{number}", whole)) is not None:
                whole[one["id"]] = one
                results.append({**(found or {"role": "tool", "content": NO_RESULT}), "tool_call_id": one["id"]})
        yield {**message, "tool_calls": list(whole.values())} if whole else message
        yield from results


@dataclass(slots=True)
class _Results:
    """Of the calls that one message makes with one id."""

    early: list[Message]
    """Those that stand before the calls: they count where none stands behind."""
    late: list[Message] = field(default_factory=list)
    calls: int = 0
    given: int = 0

    def next(self) -> Message | None:
        """The result of the next of the calls."""
        found = self.late or self.early
        at = self.given if self.calls > 1 else len(found) - 1
        self.given += 1
        return found[at] if 0 <= at < len(found) else None


def _answers(messages: Sequence[Message]) -> list[dict[str, _Results]]:
    """For each message the results of its calls, by their ids; in one walk, because a history may be long."""
    latest: dict[str, _Results] = {}
    early: dict[str, list[Message]] = {}
    found: list[dict[str, _Results]] = []
    for message in messages:
        here: dict[str, _Results] = {}
        for call in _calls_of(message):
            key = _key(call.get("id"))
            if key not in here:
                here[key] = latest[key] = _Results(early.pop(key, []))
            here[key].calls += 1
        if message.get("role") == "tool":
            key = _key(message.get("tool_call_id"))
            (latest[key].late if key in latest else early.setdefault(key, [])).append(message)
        found.append(here)
    return found


def _as_list(calls: object) -> list[object]:
    return [calls] if isinstance(calls, Mapping) else calls if isinstance(calls, list) else []


def _calls_of(message: Message) -> list[Mapping[str, Any]]:
    calls = message.get("tool_calls") if message.get("role") == "assistant" else None
    return [call for call in _as_list(calls) if isinstance(call, Mapping)]


def _key(identity: object) -> str:
    return identity if isinstance(identity, str) else ""


def joined(messages: Iterator[Message]) -> Iterator[Message]:
    """Assistant messages that follow one another are one; empty ones are none."""
    row: list[Message] = []
    for message in messages:
        if message.get("role") == "assistant" and message.get("audio") is None:
            if row and (row[-1].get("tool_calls") or row[-1].get("function_call")):
                yield _one(row)
                row = []
            if any(message.get(key) for key in ("tool_calls", "function_call", "refusal")) or _said(message):
                row.append(message)
            continue
        if row:
            yield _one(row)
            row = []
        yield message
    if row:
        yield _one(row)


def _whole_call(call: Mapping[str, Any], fallback: str, taken: Container[str]) -> Mapping[str, Any] | None:
    """The call in its full form, with an id of its own, and arguments that are an object as JSON text: an interruption
    may have cut them. None without a name.
    """
    function = call.get("function")
    if function is None and "name" in call:  # flat, as in other APIs
        function = {"name": call["name"], "arguments": call.get("arguments")}
        call = {key: value for key, value in call.items() if key not in function}
    if not isinstance(function, Mapping):
        return call if call.get("type", "function") != "function" and _key(call.get("id")) else None
    if not isinstance(function.get("name"), str) or not function["name"].strip():
        return None
    identity = _key(call.get("id"))
    return {
        **call,
        "id": identity if identity and identity not in taken else fallback,
        "type": "function",
        "function": {**function, "arguments": _json_text(function.get("arguments"))},
    }


def _json_text(arguments: object) -> Any:
    """An object as JSON text. One that is nested too deeply to be written stays, and the whole request is refused."""
    if isinstance(arguments, str):
        try:
            return arguments if isinstance(orjson.loads(arguments), dict) else "{}"
        except orjson.JSONDecodeError:
            return "{}"
    if not isinstance(arguments, Mapping):
        return "{}"
    try:
        return orjson.dumps(arguments).decode()
    except orjson.JSONEncodeError:
        return arguments


def _one(row: list[Message]) -> Message:
    if len(row) == 1:
        return row[0]
    whole = {key: value for message in row for key, value in message.items()}
    return {**whole, "content": " ".join(filter(None, map(_said, row))) or None}


def _said(message: Message) -> str:
    return text_of(message.get("content")).strip()
