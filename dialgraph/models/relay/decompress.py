"""Bodies that a proxy compresses although `identity` was asked for: unpacked as they come, a bounded piece at once."""

import zlib
from collections.abc import Callable, Iterator
from typing import Final

_PIECE_BYTES: Final = 64 * 1024
_PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})

Unpack = Callable[[bytes], Iterator[bytes]]


class UnpackError(ValueError):
    """A body is packed in a way that is not read."""


def unpacker(encoding: str) -> Unpack | None:
    """Return what unpacks a body of this `Content-Encoding`; None if it is not packed. Raises UnpackError."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in _PACKED:
        raise UnpackError(f"a body packed as {encoding[:16]!r}")
    unpacking = zlib.decompressobj(wbits=47)  # both zlib's header and gzip's

    def unpack(data: bytes) -> Iterator[bytes]:
        try:
            while data:
                yield unpacking.decompress(data, _PIECE_BYTES)
                data = unpacking.unconsumed_tail
        except zlib.error:
            raise UnpackError("a body that cannot be unpacked") from None

    return unpack
