"""Decompresses bodies that a proxy compressed although `identity` was requested, in pieces of limited size."""

import zlib
from collections.abc import Callable, Iterator
from typing import Final

_PIECE_BYTES: Final = 64 * 1024
_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})

Unpack = Callable[[bytes], Iterator[bytes]]


class UnpackError(ValueError):
    """A body has an unsupported or broken compression."""


def unpacker(encoding: str) -> Unpack | None:
    """Return a function that decompresses this `Content-Encoding`; None if it is uncompressed. Raise UnpackError."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in _PACKED:
        raise UnpackError(f"a body with the unsupported encoding {encoding[:16]!r}")
    unpacking = zlib.decompressobj(wbits=47)  # accepts zlib's header and gzip's

    def unpack(data: bytes) -> Iterator[bytes]:
        try:
            while data:
                yield unpacking.decompress(data, _PIECE_BYTES)
                data = unpacking.unconsumed_tail
        except zlib.error:
            raise UnpackError("a body that cannot be decompressed") from None

    return unpack
