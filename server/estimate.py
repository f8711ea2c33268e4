"""How many tokens a text has, about."""

from collections.abc import Iterable, Mapping

from models.question import text_of


def estimate(text: str) -> float:
    """Tokens, about: four characters of English are one, and a Chinese character is one."""
    return len(text) / 4 if text.isascii() else len(text) * 0.75


def prompt_estimate(messages: Iterable[Mapping[str, object]]) -> int:
    """Tokens of a prompt, about; four for what stands around each message."""
    return sum(4 + round(estimate(text_of(message.get("content")))) for message in messages)
