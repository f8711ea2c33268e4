"""Pairs tool calls with their results, and joins assistant messages that follow one another."""

from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from dialgraph.models.history.text import text_of

Message = Mapping[str, object]

NO_RESULT: Final = "The call was interrupted before there was a result."


def modern(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield the messages with legacy function calls and results as tool calls and results.

    Calls of any role but the assistant are dropped.
    """
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
    """Yield the messages with one result directly after every tool call. Results without a call are left out.

    Ids are not unique: some servers restart them with each answer, or send none. A result belongs to the last call
    before it with the same id. Of several results the last one counts, because the first may have been "pending".
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
    """The results of the calls with one id in one message."""

    early: list[Message]
    """Results that came before the calls. They count only if none came after."""
    late: list[Message] = field(default_factory=list)
    calls: int = 0
    given: int = 0

    def next(self) -> Message | None:
        """Return the result of the next call, or None."""
        found = self.late or self.early
        at = self.given if self.calls > 1 else len(found) - 1
        self.given += 1
        return found[at] if 0 <= at < len(found) else None


def _answers(messages: Sequence[Message]) -> list[dict[str, _Results]]:
    """Return the results of each message's calls, by id. This takes one pass, because a history may be long."""
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
    """Yield the messages with consecutive assistant messages joined. Empty assistant messages are left out."""
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
    """Return the call in its full form, with a unique id, and with its arguments as the JSON text of an object. The
    arguments become `{}` if an interruption cut them. Return None if the call has no name.
    """
    function = call.get("function")
    if function is None and "name" in call:  # a flat call, as in other APIs
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
    """Return the JSON text of an object. If it is nested too deeply, return it unchanged: the whole request is then
    refused.
    """
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
