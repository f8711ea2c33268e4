"""The caller's messages as a model may see them: host-private fields out, every picture in OpenAI's form."""

from collections.abc import Mapping, Sequence

from models.port import Message

INTERRUPTED_TAG = "<ims_agent_interrupted>"
"""Alibaba's mark in an assistant message: the caller broke in here."""

_FIELDS = frozenset(
    {
        "role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio",
        "reasoning", "reasoning_content", "reasoning_details", "annotations", "cache_control", "prefix", "partial",
    }
)  # fmt: skip
"""What providers read. Hosts add turn_id, timestamp, metadata, created_at …, which some providers refuse."""


def upstream_messages(messages: Sequence[Message]) -> list[Message]:
    """All the messages, in their order."""
    return [_upstream_message(message) for message in messages]


def _upstream_message(message: Message) -> Message:
    content = message.get("content")
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
