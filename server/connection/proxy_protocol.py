"""The PROXY protocol: before the first request a trusted proxy sends the address of its client.

Source: haproxy.org/download/2.9/doc/proxy-protocol.txt, versions 1 and 2.
"""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

_TEXT: Final = b"PROXY "
_BINARY: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_LONGEST_LINE: Final = 107
_MOST_BYTES: Final = 536
"""The longest header of version 2, with its extensions."""
_FIXED: Final = 16

Client = tuple[str, int]


class ProxyHeaderError(ValueError):
    """The header is not valid."""


def may_begin(data: bytes) -> bool:
    """Return whether the data is the beginning of a header or a whole header."""
    return any(data.startswith(mark[: len(data)]) if len(data) < len(mark) else data.startswith(mark)
               for mark in (_TEXT, _BINARY))  # fmt: skip


def read_header(data: bytes) -> tuple[int, Client | None] | None:
    """Return the length of the header and the client that it names, or None for the client if it names none.

    Returns None if more bytes must come.

    Raises ProxyHeaderError.
    """
    if data.startswith(_TEXT):
        return _read_text(data)
    if data.startswith(_BINARY):
        return _read_binary(data)
    return None


def _read_text(data: bytes) -> tuple[int, Client | None] | None:
    line, end, _ = data[:_LONGEST_LINE].partition(b"\r\n")
    if not end:
        if len(data) >= _LONGEST_LINE:
            raise ProxyHeaderError("the line has no end")
        return None
    words = line.decode("ascii", "replace").split(" ")
    if words[1:2] == ["UNKNOWN"]:
        return len(line) + 2, None
    try:
        _, family, source, _, port, _ = words
        address = ip_address(source)
        if family != f"TCP{address.version}" or not 0 <= int(port) < 65536:
            raise ValueError(family)
    except ValueError:
        raise ProxyHeaderError("the line cannot be read") from None
    return len(line) + 2, (str(address), int(port))


def _read_binary(data: bytes) -> tuple[int, Client | None] | None:
    if len(data) < _FIXED:
        return None
    version, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    if version >> 4 != 2 or version & 15 > 1 or length > _MOST_BYTES:
        raise ProxyHeaderError("the version is not 2, or the header is too long")
    if len(data) < _FIXED + length:
        return None
    rest = data[_FIXED : _FIXED + length]
    if version & 15 == 0 or family not in (0x11, 0x21):  # a health check of the proxy, or not TCP
        return _FIXED + length, None
    size, kind = (4, IPv4Address) if family == 0x11 else (16, IPv6Address)
    if length < 2 * size + 4:
        raise ProxyHeaderError("the addresses are incomplete")
    port = struct.unpack_from("!H", rest, 2 * size)[0]
    return _FIXED + length, (str(kind(rest[:size])), port)
