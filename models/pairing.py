"""Tool calls and their results, put together; and rows of an assistant's messages made one."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from models.question import text_of

Message = Mapping[str, object]

NO_RESULT: Final = "The call was interrupted before there was a result."


def modern(messages: Sequence[Message]) -> Iterator[Message]:
    """Calls and results in the form before tools become calls and results."""
    waiting: deque[str] = deque()
    for number, message in enumerate(messages):
        call = message.get("function_call")
        if isinstance(call, Mapping) and not message.get("tool_calls"):
            identity = f"legacy{number:03}"
            waiting.append(identity)
            rest = {key: value for key, value in message.items() if key != "function_call"}
            yield {**rest, "tool_calls": [{"id": identity, "type": "function", "function": call}]}
        elif message.get("role") == "function" and waiting:
            yield {"role": "tool", "tool_call_id": waiting.popleft(), "content": message.get("content")}
        elif message.get("role") != "function":
            yield message


def paired(messages: Sequence[Message]) -> Iterator[Message]:
    """Every tool call has one result right behind it, the first that comes later; results of no call are left out."""
    results: dict[str, deque[tuple[int, Message]]] = {}
    for at, message in enumerate(messages):
        if message.get("role") == "tool":
            results.setdefault(repr(message.get("tool_call_id")), deque()).append((at, message))
    for at, message in enumerate(messages):
        calls = message.get("tool_calls")
        if message.get("role") == "tool":
            continue
        if message.get("role") != "assistant" or not isinstance(calls, list):
            yield message
            continue
        whole = [one for number, call in enumerate(calls) if (one := _whole_call(call, f"{at}x{number}")) is not None]
        if whole != calls:
            message = {key: value for key, value in message.items() if key != "tool_calls"}
            message |= {"tool_calls": whole} if whole else {}
        yield message
        for call in whole:
            waiting = results.get(repr(call["id"]), deque())
            while waiting and waiting[0][0] < at:
                waiting.popleft()
            missing = {"role": "tool", "tool_call_id": call["id"], "content": NO_RESULT}
            yield waiting.popleft()[1] if waiting else missing


def joined(messages: Iterator[Message]) -> Iterator[Message]:
    """Assistant messages that follow one another are one; empty ones are none."""
    row: list[Message] = []
    for message in messages:
        if message.get("role") == "assistant" and message.get("audio") is None:
            if row and row[-1].get("tool_calls"):
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


def _whole_call(call: object, fallback: str) -> Mapping[str, Any] | None:
    """The call with an id, and arguments that are JSON text: an interruption may have cut them. None without a name."""
    if not isinstance(call, Mapping):
        return None
    function = call.get("function")
    if isinstance(function, Mapping):
        if not isinstance(function.get("name"), str) or not function["name"].strip():
            return None
        arguments = _json_text(function.get("arguments"))
        if arguments != function.get("arguments"):
            call = {**call, "function": {**function, "arguments": arguments}}
    identity = call.get("id")
    return call if isinstance(identity, str) and identity else {**call, "id": f"call_{fallback}"}


def _json_text(arguments: object) -> str:
    if isinstance(arguments, str):
        try:
            orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return "{}"
        return arguments
    return orjson.dumps(arguments).decode() if isinstance(arguments, Mapping) else "{}"


def _one(row: list[Message]) -> Message:
    if len(row) == 1:
        return row[0]
    whole = {key: value for message in row for key, value in message.items()}
    return {**whole, "content": " ".join(filter(None, map(_said, row))) or None}


def _said(message: Message) -> str:
    return text_of(message.get("content")).strip()
