"""A stream's bytes → the rules that they break. Shares no code with our encoder. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

FINISHES = ("stop", "tool_calls", "length", "content_filter")


@dataclass
class Reading:
    """The content of a stream, and the rules that it breaks."""

    breaches: dict[str, str] = field(default_factory=dict)
    """Rule → the first breach of it."""
    text: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    finish: str | None = None
    id: object = None
    usage: object = None

    def breach(self, rule: str, seen: str) -> None:
        """Note a broken rule. Only the first breach of a rule is stored."""
        self.breaches.setdefault(rule, seen[:120])


def read_stream(body: bytes, *, wants_usage: bool = False) -> Reading:
    """Return the content of a stream and the rules that it breaks."""
    reading = Reading()
    chunks = list(_chunks(body, reading))
    for at, chunk in enumerate(chunks):
        _head(reading, chunk, chunks[0])
        _usage(reading, chunk, last=at == len(chunks) - 1, wanted=wants_usage)
    deltas = [choice for chunk in chunks for choice in _choices(reading, chunk)]
    for choice in deltas:
        _delta(reading, choice)
    first = deltas[0].get("delta") if deltas else None
    if not isinstance(first, dict) or first.get("role") != "assistant":
        reading.breach("role", "the first delta has no `role: assistant`")
    if reading.finish is None:
        reading.breach("finish", "there is no finish reason")
    _tool_calls(reading)
    return reading


def _chunks(body: bytes, reading: Reading) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of the stream, up to `[DONE]`."""
    done = False
    try:
        text = body.decode()
    except UnicodeDecodeError:
        reading.breach("framing", "the stream is not UTF-8")
        return
    for block in text.replace("\r\n", "\n").split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        for line in lines:
            if not line.startswith("data:"):
                reading.breach("framing", f"an unexpected line {line!r}")
        data = "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))
        if not any(line.startswith("data:") for line in lines):
            continue
        if done:
            reading.breach("done", f"after [DONE]: {data!r}")
            continue
        if data == "[DONE]":
            done = True
            continue
        if not data:
            reading.breach("framing", "an event without data")
            continue
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            reading.breach("json", f"{data!r}")
            continue
        if isinstance(chunk, dict) and "error" in chunk and "choices" not in chunk:
            reading.breach("answers", f"an error in the stream: {chunk['error']!r}")
        elif isinstance(chunk, dict):
            yield chunk
        else:
            reading.breach("json", f"{data!r}")
    if not done:
        reading.breach("done", "there is no [DONE]")


def _head(reading: Reading, chunk: dict[str, Any], first: dict[str, Any]) -> None:
    reading.id = reading.id or chunk.get("id")
    if not isinstance(chunk.get("id"), str) or not chunk["id"]:
        reading.breach("id", f"{chunk.get('id')!r}")
    elif chunk["id"] != first.get("id"):
        reading.breach("id", f"{first.get('id')!r}, then {chunk['id']!r}")
    if not isinstance(chunk.get("created"), int) or isinstance(chunk.get("created"), bool):
        reading.breach("created", f"{chunk.get('created')!r}")
    elif chunk["created"] != first.get("created"):
        reading.breach("created", "`created` changes within the stream")
    if not isinstance(chunk.get("model"), str):
        reading.breach("model", f"{chunk.get('model')!r}")
    if chunk.get("object") != "chat.completion.chunk":
        reading.breach("object", f"{chunk.get('object')!r}")
    if "error" in chunk:
        reading.breach("error-key", f"error: {chunk['error']!r}")


def _choices(reading: Reading, chunk: dict[str, Any]) -> list[dict[str, Any]]:
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        reading.breach("choices", f"{choices!r}")
        return []
    return choices


def _usage(reading: Reading, chunk: dict[str, Any], *, last: bool, wanted: bool) -> None:
    usage = chunk.get("usage")
    if usage is None:
        if chunk.get("choices") == []:
            reading.breach("usage", "empty choices without usage")
        return
    reading.usage = usage
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    if not isinstance(usage, dict) or not all(isinstance(usage.get(count), int) for count in counts):
        reading.breach("usage", f"{usage!r}")
    elif not wanted:
        reading.breach("usage", "usage was sent but not requested")
    elif not last or chunk.get("choices") != []:
        reading.breach("usage", "usage is not in the last chunk with `choices: []`")


def _delta(reading: Reading, choice: dict[str, Any]) -> None:
    if choice.get("index") != 0:
        reading.breach("index", f"{choice.get('index')!r}")
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        reading.breach("delta", f"{delta!r}")
        delta = {}
    content, calls = delta.get("content"), delta.get("tool_calls")
    if reading.finish is not None and (content or calls):
        reading.breach("finish", "words or tool calls come after the finish reason")
    reading.text += content if isinstance(content, str) else ""
    if content and calls:
        reading.breach("one-kind", "words and a tool call in one delta")
    if isinstance(calls, list):
        reading.calls += [call for call in calls if isinstance(call, dict)]
    finish = choice.get("finish_reason")
    if finish:
        if reading.finish is not None:
            reading.breach("finish", "there are two finish reasons")
        if finish not in FINISHES:
            reading.breach("finish", f"{finish!r}")
        if content or calls:
            reading.breach("finish", "the finish reason is in a delta with words or tool calls")
        reading.finish = str(finish)


def _tool_calls(reading: Reading) -> None:
    whole: dict[int, dict[str, str]] = {}
    for call in reading.calls:
        index, function = call.get("index"), call.get("function")
        function = function if isinstance(function, dict) else {}
        if not isinstance(index, int):
            reading.breach("tool-call", f"index {index!r}")
            index = len(whole)
        if index not in whole:
            if index != len(whole) or not call.get("id") or call.get("type") != "function" or not function.get("name"):
                reading.breach("tool-call", "a tool call begins without a valid index, an id, a type or a name")
            whole[index] = {"name": str(function.get("name")), "arguments": ""}
        elif function.get("name"):
            reading.breach("tool-finish", f"the tool call {function['name']!r} is sent twice")
        whole[index]["arguments"] += str(function.get("arguments") or "")
    for one in whole.values():
        try:
            orjson.loads(one["arguments"])
        except orjson.JSONDecodeError:
            reading.breach("tool-call", f"arguments {one['arguments']!r}")
    if whole and reading.finish != "tool_calls":
        reading.breach("tool-finish", f"finish reason {reading.finish!r} after tool calls")
    if not whole and reading.finish == "tool_calls":
        reading.breach("tool-finish", "finish reason `tool_calls` without a tool call")
