"""A request's body → its JSON object, read so that no body holds up the event loop for long.

A parser holds the loop for as long as it takes, in a thread too, and millions of small values take seconds. So a large
body's values are counted first, a slice at a time, and a body with too many is refused.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import orjson

from dialgraph.language.surrogates import whole_escapes
from server.errors import ApiError

MOST_VALUES: Final = 100_000
"""Of a body: about 15 ms of parsing. A conversation of 4,096 messages has less than half of it."""
LARGE_BYTES: Final = 2 * MOST_VALUES
"""A body of this size cannot hold more: a value takes two bytes, its own and a comma or bracket."""
_SLICE_BYTES: Final = 512 * 1024
_MENDED_BYTES: Final = 512 * 1024
"""A larger body with half a surrogate pair is refused: looking for it takes long."""
_MARKS: Final = (b",", b"[", b"{")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


async def check_values(body: bytes) -> None:
    """Let no body pass whose values would hold the loop, letting other work go on in between. Raises ApiError 400."""
    for _ in _counted(body):
        await asyncio.sleep(0)


async def read_object(body: bytes) -> dict[str, Any]:
    """Return the body's object, letting other work go on in between. Raises ApiError 400."""
    await check_values(body)
    found = _parsed(body)
    if len(body) > LARGE_BYTES:
        await asyncio.sleep(0)
    return found


def json_object(body: bytes) -> dict[str, Any]:
    """The same at once. Raises ApiError 400."""
    for _ in _counted(body):
        pass
    return _parsed(body)


def _parsed(body: bytes) -> dict[str, Any]:
    body = body.removeprefix(_BYTE_ORDER_MARK)
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        data = _mended(body)
    if not isinstance(data, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_value")
    return data


def _mended(body: bytes) -> Any:
    """Read a text that a host cut in the middle of an emoji."""
    whole = whole_escapes(body) if len(body) <= _MENDED_BYTES else None
    try:
        return orjson.loads(whole or b"")
    except orjson.JSONDecodeError:
        raise ApiError(400, "The body is not valid JSON.", code="invalid_json") from None


def _counted(body: bytes) -> Iterator[None]:
    """Count what separates or opens values, outside of texts; yields between two slices. Raises ApiError 400."""
    if len(body) <= LARGE_BYTES:
        return
    values, texts, in_text = 0, 0, False
    at = 0
    while at < len(body):
        end = _slice_end(body, at)
        # Without escaped quotes and backslashes every quote that is left begins or ends a text.
        piece = body[at:end].replace(b"\\\\", b"").replace(b'\\"', b"")
        texts += piece.count(b'"')
        if texts > 2 * MOST_VALUES:
            raise _too_many()
        parts = piece.split(b'"')
        outside = b"".join(parts[1::2] if in_text else parts[::2])
        values += sum(outside.count(mark) for mark in _MARKS)
        if values > MOST_VALUES:
            raise _too_many()
        in_text ^= len(parts) % 2 == 0
        at = end
        yield


def _slice_end(body: bytes, at: int) -> int:
    """Where a slice ends, never between a backslash and what it escapes."""
    end = min(at + _SLICE_BYTES, len(body))
    backslashes = end - at - len(body[at:end].rstrip(b"\\"))
    return end - backslashes % 2 if end < len(body) else end


def _too_many() -> ApiError:
    message = f"The body holds more than {MOST_VALUES} values."
    return ApiError(400, message, code="invalid_value")
