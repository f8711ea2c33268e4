"""Finds out whether a client has vanished: sent data stays unacknowledged, and nothing comes back.

The kernel's own timer (TCP_USER_TIMEOUT) cannot be used for this. It also runs for a client that is connected but reads
nothing for a while.
"""

import asyncio
import socket
import struct
from typing import Final

VANISHED_MILLISECONDS: Final = 7000
_INFO_BYTES: Final = 104
_UNACKNOWLEDGED: Final = 24
"""The offset of `tcpi_unacked` in Linux's `struct tcp_info`: 32 bits, native byte order."""
_LAST_ACKNOWLEDGEMENT: Final = 56
"""The offset of `tcpi_last_ack_recv`, in milliseconds."""


def has_vanished(transport: asyncio.BaseTransport) -> bool:
    """Return whether the client has acknowledged nothing for `VANISHED_MILLISECONDS`.

    Always False on a system that does not report acknowledgements.
    """
    connection = transport.get_extra_info("socket")
    if connection is None or transport.is_closing() or not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except (OSError, TypeError):
        return False
    if len(info) < _LAST_ACKNOWLEDGEMENT + 4:
        return False
    unacknowledged: int = struct.unpack_from("=I", info, _UNACKNOWLEDGED)[0]
    last: int = struct.unpack_from("=I", info, _LAST_ACKNOWLEDGEMENT)[0]
    return unacknowledged > 0 and last > VANISHED_MILLISECONDS
