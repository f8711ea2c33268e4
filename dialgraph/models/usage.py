"""The usage of an answer: the server's own count, or an estimate if the server sends none."""

from collections.abc import Iterable, Mapping
from typing import Final

from dialgraph.models.history.text import text_of
from dialgraph.models.parts import Usage

_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_OTHER_NAMES: Final = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
_MOST_TOKENS: Final = 2**53


def read_usage(usage: object) -> Usage | None:
    """Return the usage with its three counts. Return None if only some counts are there.

    A partial usage makes strict clients fail after the words. The total is computed if it is missing or less than the
    sum of its parts.
    """
    if not isinstance(usage, Mapping):
        return None
    prompt, completion = (_count(usage, name) for name in _COUNTS[:2])
    if prompt is None or completion is None:
        return None
    total = max(_count(usage, "total_tokens") or 0, prompt + completion)
    names = {*_COUNTS, *_OTHER_NAMES.values()}
    rest = {key: value for key, value in usage.items() if key not in names and value}
    odd = [key for key, value in rest.items() if key.endswith("_details") and not isinstance(value, Mapping)]
    return Usage(prompt, completion, total, {key: value for key, value in rest.items() if key not in odd})


def _count(usage: Mapping[str, object], name: str) -> int | None:
    value = usage.get(name)
    if value is None:
        value = usage.get(_OTHER_NAMES.get(name, ""))
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None


def estimate(text: str) -> float:
    """Return the approximate number of tokens of a text: 4 English characters or about 1.3 Chinese ones per token."""
    return len(text) / 4 if text.isascii() else len(text) * 0.75


def prompt_estimate(messages: Iterable[Mapping[str, object]]) -> int:
    """Return the approximate number of tokens of a prompt. Each message adds four tokens for its frame."""
    return sum(4 + round(estimate(text_of(message.get("content")))) for message in messages)


def estimated_usage(messages: Iterable[Mapping[str, object]], said: float) -> Usage:
    """Return the usage of an answer whose server sends none. `said` is the token estimate of its words."""
    prompt, completion = prompt_estimate(messages), round(said)
    return Usage(prompt, completion, prompt + completion, estimated=True)
