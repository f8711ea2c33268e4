"""A request's body → its JSON object. No body blocks the event loop for long.

A JSON parser blocks the event loop while it runs, even in a thread, and millions of small values take seconds. So the
values of a large body are counted first, slice by slice, and a body with too many is refused.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import orjson

from dialgraph.language.surrogates import whole_escapes
from server.errors import ApiError

MOST_VALUES: Final = 100_000
"""Values in one body: about 15 ms of parsing. A conversation of 4,096 messages has less than half as many."""
LARGE_BYTES: Final = 2 * MOST_VALUES
"""A body up to this size cannot hold more values: each takes at least two bytes, its own and a comma or bracket."""
_SLICE_BYTES: Final = 512 * 1024
_MENDED_BYTES: Final = 512 * 1024
"""A larger body with half a surrogate pair is refused, because the search for it takes long."""
_MARKS: Final = (b",", b"[", b"{")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


async def check_values(body: bytes) -> None:
    """Raise ApiError 400 if a body has too many values. Other tasks run between two slices."""
    for _ in _counted(body):
        await asyncio.sleep(0)


async def read_object(body: bytes) -> dict[str, Any]:
    """Return the body's JSON object. Other tasks run between two slices. Raises ApiError 400."""
    await check_values(body)
    found = _parsed(body)
    if len(body) > LARGE_BYTES:
        await asyncio.sleep(0)
    return found


def json_object(body: bytes) -> dict[str, Any]:
    """Return the body's JSON object without letting other tasks run. Raises ApiError 400."""
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
    """Parse a body in which a host cut an emoji in half."""
    whole = whole_escapes(body) if len(body) <= _MENDED_BYTES else None
    try:
        return orjson.loads(whole or b"")
    except orjson.JSONDecodeError:
        raise ApiError(400, "The body is not valid JSON.", code="invalid_json") from None


def _counted(body: bytes) -> Iterator[None]:
    """Count commas and opening brackets outside of strings. Yields after each slice. Raises ApiError 400."""
    if len(body) <= LARGE_BYTES:
        return
    values, texts, in_text = 0, 0, False
    at = 0
    while at < len(body):
        end = _slice_end(body, at)
        # Without escaped quotes and backslashes, every remaining quote begins or ends a string.
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
    """Return where a slice ends: never between a backslash and the character that it escapes."""
    end = min(at + _SLICE_BYTES, len(body))
    backslashes = end - at - len(body[at:end].rstrip(b"\\"))
    return end - backslashes % 2 if end < len(body) else end


def _too_many() -> ApiError:
    message = f"The body has more than {MOST_VALUES} JSON values."
    return ApiError(400, message, code="invalid_value")
