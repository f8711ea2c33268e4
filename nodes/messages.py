"""The caller's messages as a model may see them: mended where a call left them broken, without what only hosts read.

A voice call breaks histories: an interruption leaves a tool call without its result, hosts cut what was not heard, keep
the newest messages only, and greet before anybody spoke. Strict providers answer each of these with a 400, and then
every later turn of the call fails too.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from language.words import is_chinese
from models.port import Message
from models.question import text_of
from nodes.frames import OURS

INTERRUPTED_TAG = "<ims_agent_interrupted>"
"""Alibaba's mark in an assistant message: the caller broke in here."""
NO_RESULT = "The call was interrupted before there was a result."
_CALL_BEGINS = {False: "(The call begins.)", True: "（通话开始）"}
_FIELDS = frozenset(
    {
        "role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio",
        "reasoning", "reasoning_content", "reasoning_details", "annotations", "cache_control", "prefix", "partial",
    }
)  # fmt: skip
"""What providers read. Hosts add turn_id, timestamp, metadata, created_at …, which some providers refuse."""
_RULES = ("system", "developer")


def upstream_messages(messages: Sequence[Message]) -> list[Message]:
    """All the messages, in their order, as one conversation that every provider accepts."""
    return list(_begun_by_the_caller(_joined(_answered([_upstream_message(message) for message in messages]))))


def _answered(messages: Sequence[Message]) -> Iterator[Message]:
    """Every tool call has one result right behind it, the first that comes later; results of no call are left out."""
    results: dict[str, deque[tuple[int, Message]]] = {}
    for at, message in enumerate(messages):
        if message.get("role") == "tool":
            results.setdefault(repr(message.get("tool_call_id")), deque()).append((at, message))
    for at, message in enumerate(messages):
        calls = message.get("tool_calls")
        if message.get("role") == "tool":
            continue
        if message.get("role") == "assistant" and isinstance(calls, list):
            whole = [_whole_call(call) for call in calls if isinstance(call, Mapping)]
            if whole != calls:
                message = {key: value for key, value in message.items() if key != "tool_calls"}
                message |= {"tool_calls": whole} if whole else {}
            yield message
            for call in whole:
                waiting = results.get(repr(call.get("id")), deque())
                while waiting and waiting[0][0] < at:
                    waiting.popleft()
                missing = {"role": "tool", "tool_call_id": call.get("id"), "content": NO_RESULT}
                yield waiting.popleft()[1] if waiting else missing
        else:
            yield message


def _whole_call(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """The call with arguments that are JSON: an interruption may have cut them."""
    function = call.get("function")
    if not isinstance(function, Mapping) or "arguments" not in function:
        return call
    try:
        orjson.loads(function["arguments"])
    except (orjson.JSONDecodeError, TypeError):
        return {**call, "function": {**function, "arguments": "{}"}}
    return call


def _joined(messages: Iterator[Message]) -> Iterator[Message]:
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


def _one(row: list[Message]) -> Message:
    if len(row) == 1:
        return row[0]
    whole = {key: value for message in row for key, value in message.items()}
    return {**whole, "content": " ".join(filter(None, map(_said, row))) or None}


def _said(message: Message) -> str:
    return text_of(message.get("content")).strip()


def _begun_by_the_caller(messages: Iterator[Message]) -> Iterator[Message]:
    """Some providers refuse a conversation that the assistant begins: a greeting answers the call itself."""
    begun = False
    for message in messages:
        if not begun and message.get("role") not in _RULES:
            begun = True
            if message.get("role") == "assistant":
                yield {"role": "user", "content": _CALL_BEGINS[is_chinese(text_of(message.get("content")))]}
        yield message


def _upstream_message(message: Message) -> Message:
    content = message.get("content")
    if isinstance(content, str) and INTERRUPTED_TAG in content:
        message = {**message, "content": content.replace(INTERRUPTED_TAG, "").rstrip()}
    sound = message.get("audio")
    if isinstance(sound, Mapping) and str(sound.get("id")).startswith(OURS):
        message = {key: value for key, value in message.items() if key != "audio"}
        if not text_of(message.get("content")).strip() and isinstance(sound.get("transcript"), str):
            message["content"] = sound["transcript"]
    if message.keys() <= _FIELDS and not isinstance(content, list):
        return message
    kept = {key: value for key, value in message.items() if key in _FIELDS}
    if isinstance(content, list):
        kept["content"] = [_upstream_part(part) for part in content]
    return kept


def _upstream_part(part: object) -> object:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, Mapping) and part.get("type") in ("image", "image_url"):
        image = part.get("image_url")
        if isinstance(image, str):
            return {"type": "image_url", "image_url": {"url": image}}
        return {**part, "type": "image_url"}
    return part
