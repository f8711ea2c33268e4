"""The text of messages, in every form that their content can have."""

from collections.abc import Mapping, Sequence
from typing import Final

_SAID: Final = ("text", "input_text", "output_text", "refusal")


def text_of(content: object) -> str:
    """Return the words of a message's content: a string, a list of parts or of strings, or nothing."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    pieces = []
    for part in content:
        text = part_text(part) if isinstance(part, Mapping) else part
        if isinstance(text, str) and text:
            pieces.append(text)
    return " ".join(pieces)


def part_text(part: Mapping[str, object]) -> str:
    """Return the words of one part: OpenAI's `text`, the Assistants API's `text.value`, or a refusal."""
    text = part.get("text")
    if isinstance(text, Mapping):
        text = text.get("value")
    if not text and part.get("type") in _SAID:
        text = part.get("content") or part.get("refusal")
    return text if isinstance(text, str) else ""


def last_user_text(messages: Sequence[Mapping[str, object]]) -> str:
    """Return the words of the last user message; empty if there is none (an opening, a silence)."""

    for message in reversed(messages):
        if message.get("role") == "user":
            return text_of(message.get("content"))
    return ""
