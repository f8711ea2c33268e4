"""Converts a request's messages for a model: repairs broken histories, and removes fields that only hosts read.

A voice call breaks histories. A barge-in leaves a tool call without its result. Hosts cut what the caller did not hear,
keep only the newest messages, and greet before anybody has spoken. Strict providers answer each of these with a 400,
and then every later turn of the call fails too.
"""

from collections.abc import Iterator, Mapping, Sequence

from dialgraph.language.words import is_chinese
from dialgraph.models.history.pairing import joined, paired
from dialgraph.models.history.text import text_of
from dialgraph.models.port import Message
from dialgraph.profiles.together import interruption_tags
from dialgraph.turn.frames import OURS

_CALL_BEGINS = {False: "(The call begins.)", True: "（通话开始）"}
_FIELDS = frozenset(
    {
        "role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio",
        "reasoning", "reasoning_content", "reasoning_details", "annotations", "cache_control", "prefix", "partial",
    }
)  # fmt: skip
"""The fields that providers read. Hosts add turn_id, timestamp, metadata, created_at …, which some providers refuse."""
RULES = ("system", "developer")
"""The roles of messages that are rules, not conversation."""


def upstream_messages(messages: Sequence[Message]) -> list[Message]:
    """Return the messages, in their order, repaired to a conversation that every provider accepts."""
    return list(_begun_by_the_caller(joined(paired([_upstream_message(message) for message in messages]))))


def _begun_by_the_caller(messages: Iterator[Message]) -> Iterator[Message]:
    """Add a user message before a greeting, because some providers refuse a conversation that the assistant begins."""
    begun = False
    for message in messages:
        if not begun and message.get("role") not in RULES:
            begun = True
            if message.get("role") == "assistant":
                yield {"role": "user", "content": _CALL_BEGINS[is_chinese(text_of(message.get("content")))]}
        yield message


def _upstream_message(message: Message) -> Message:
    content = message.get("content")
    if isinstance(content, str):
        for tag in interruption_tags():
            if tag in content:
                message = {**message, "content": content.replace(tag, "").rstrip()}
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
