"""Repairs half surrogate pairs: JSON writes an emoji as two escapes, and a text may be cut between them."""

import re
from typing import Any, Final

_ESCAPES: Final = re.compile(rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def whole_escapes(json_text: bytes) -> bytes | None:
    """Return the JSON text with each lone half replaced by U+FFFD; None if it contains no escape of a half."""
    return _ESCAPES.sub(_whole, json_text) if _SURROGATE.search(json_text) else None


def _whole(found: re.Match[bytes]) -> bytes:
    escape = found.group()
    return rb"\ufffd" if len(escape) == 6 and _SURROGATE.fullmatch(escape) else escape


def joined(text: str) -> str:
    """Return the text with pairs of halves joined and lone halves replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def joined_within(value: Any) -> Any:
    """Return the JSON value with every text in it repaired by `joined`."""
    if isinstance(value, str):
        return joined(value)
    if isinstance(value, dict):
        return {joined(key): joined_within(one) for key, one in value.items()}
    return [joined_within(one) for one in value] if isinstance(value, list) else value
