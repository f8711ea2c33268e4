"""A request to a model as JSON. Long texts are written in pieces, so that no other call waits."""

import asyncio
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, Final

import orjson

_LONG_CHARACTERS: Final = 1_000_000
_PIECE_CHARACTERS: Final = 1_000_000


async def written(body: Mapping[str, Any]) -> bytes | BytesIO:
    """Return the JSON text; a large one as a file, which is sent in pieces. Raise orjson.JSONEncodeError."""
    if not any(map(_is_long, body.get("messages", ()))):
        data = orjson.dumps(body)
        return BytesIO(data) if len(data) > _PIECE_CHARACTERS else data
    file = BytesIO()
    for piece in _pieces(body):
        file.write(piece)
        if len(piece) >= _PIECE_CHARACTERS:
            await asyncio.sleep(0)
    file.seek(0)
    return file


def _is_long(value: object) -> bool:
    """Return whether a message contains a long text anywhere."""
    if isinstance(value, str):
        return len(value) > _LONG_CHARACTERS
    if isinstance(value, Mapping):
        return any(map(_is_long, value.values()))
    return isinstance(value, list) and any(map(_is_long, value))


def _pieces(value: Any) -> Iterator[bytes]:
    """Yield the JSON text in pieces. A string can be split because JSON escapes each character independently."""
    if isinstance(value, str) and len(value) > _LONG_CHARACTERS:
        yield b'"'
        for at in range(0, len(value), _PIECE_CHARACTERS):
            yield orjson.dumps(value[at : at + _PIECE_CHARACTERS])[1:-1]
        yield b'"'
    elif isinstance(value, Mapping) and _is_long(value):
        for number, (key, one) in enumerate(value.items()):
            yield (b"," if number else b"{") + orjson.dumps(key) + b":"
            yield from _pieces(one)
        yield b"}"
    elif isinstance(value, list | tuple) and _is_long(list(value)):
        for number, one in enumerate(value):
            yield b"," if number else b"["
            yield from _pieces(one)
        yield b"]"
    else:
        yield orjson.dumps(value)
