"""Tool calls and their results, put together; and rows of an assistant's messages made one."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from models.question import text_of

Message = Mapping[str, object]

NO_RESULT: Final = "The call was interrupted before there was a result."


def modern(messages: Sequence[Message]) -> Iterator[Message]:
    """Calls and results in the form before tools become calls and results; only an assistant makes calls."""
    waiting: list[tuple[str, object]] = []
    for number, message in enumerate(messages):
        role, call = message.get("role"), message.get("function_call")
        message = {key: value for key, value in message.items() if key not in ("function_call", "tool_calls")}
        calls = _as_list(messages[number].get("tool_calls")) if role == "assistant" else []
        if calls:
            yield {**message, "tool_calls": calls}
        elif isinstance(call, Mapping) and role == "assistant":
            identity = f"legacy{number:03}"
            waiting.append((identity, call.get("name")))
            yield {**message, "tool_calls": [{"id": identity, "type": "function", "function": call}]}
        elif role == "function" and waiting:
            answered = next((one for one in waiting if one[1] == message.get("name")), waiting[0])
            waiting.remove(answered)
            yield {"role": "tool", "tool_call_id": answered[0], "content": message.get("content")}
        elif role != "function":
            yield message


def paired(messages: Sequence[Message]) -> Iterator[Message]:
    """Every tool call has one result right behind it; results of no call are left out.

    Ids are not unique: some servers begin anew with each answer, or give none. A result belongs to the call of its id
    that came last before it; the last of several counts, the first was perhaps "pending".
    """
    results: dict[str, list[tuple[int, Message]]] = {}
    made: dict[str, list[int]] = {}
    for at, message in enumerate(messages):
        if message.get("role") == "tool":
            results.setdefault(_key(message.get("tool_call_id")), []).append((at, message))
        for call in _calls_of(message):
            made.setdefault(_key(call.get("id")), []).append(at)
    for at, message in enumerate(messages):
        if message.get("role") == "tool":
            continue
        calls = _calls_of(message)
        message = {key: value for key, value in message.items() if key != "tool_calls"}
        whole: list[tuple[str, Mapping[str, Any]]] = []
        for number, call in enumerate(calls):
            taken = {one["id"] for _, one in whole}
            if (one := _whole_call(call, f"call_{at}x{number}", taken)) is not None:
                whole.append((_key(call.get("id")), one))
        yield {**message, "tool_calls": [call for _, call in whole]} if whole else message
        for number, (key, call) in enumerate(whole):
            same = [one for one, _ in whole[:number]].count(key)
            found = _results(results.get(key, []), made[key], at)
            alone = [one for one, _ in whole].count(key) == 1
            content = found[-1 if alone else same] if found and (alone or same < len(found)) else None
            missing = {"role": "tool", "content": NO_RESULT}
            yield {**(content or missing), "tool_call_id": call["id"]}


def _results(results: Sequence[tuple[int, Message]], made: Sequence[int], at: int) -> list[Message]:
    """Those of the calls that were made at this place: behind it, and before the same id is used again."""
    next_at = min((one for one in made if one > at), default=sys.maxsize)
    found = [message for place, message in results if at < place < next_at]
    return found or [message for place, message in results if place < at == made[0]]


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


def _whole_call(call: Mapping[str, Any], fallback: str, taken: set[str]) -> Mapping[str, Any] | None:
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
