"""Reads JSON that is not strictly valid. Pure.

Some servers send NaN, half an emoji, a byte order mark or an invalid byte, which strict readers refuse. Every value
that this module returns can also be written, so nesting and whole numbers are limited to what our JSON writer accepts.
"""

import json
from typing import Any, Final

import orjson

from dialgraph.language.surrogates import joined_within

MOST_DEPTH: Final = 200
"""orjson writes 254 levels, and the value becomes part of a larger object."""
_MOST_DIGITS: Final = 18


def read_json(data: bytes) -> Any:
    """Return the value. Raise ValueError if it is not JSON, or is nested too deeply to be passed on."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            value = joined_within(json.loads(data.decode("utf-8-sig", "replace"), parse_int=_number))
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
    if len(data) > 2 * MOST_DEPTH and data.count(b"[") + data.count(b"{") > MOST_DEPTH and _is_deep(value):
        raise ValueError("it is nested too deeply")
    return value


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True
