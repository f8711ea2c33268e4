"""Writes the body of a chunked reply directly. A piece needs no coroutine as long as the client keeps up."""

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class BodyStream:
    """The body of one reply, as an extension of its ASGI scope."""

    __slots__ = ("_cycle", "_loop", "_transport", "on_left", "sent")

    def __init__(self, cycle: RequestResponseCycle, transport: asyncio.Transport) -> None:
        self._cycle = cycle
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self.sent = 0.0
        """When a piece was last written, by the event loop's clock."""
        self.on_left: Callable[[], None] | None = None
        """Called when the client leaves before its reply is complete."""

    @property
    def flows(self) -> bool:
        """Return whether the reply has begun and a piece of it can be written now."""
        cycle = self._cycle
        return bool(cycle.chunked_encoding) and not (
            cycle.response_complete or cycle.disconnected or cycle.flow.write_paused
        )

    @property
    def is_left(self) -> bool:
        """Return whether the client has left."""
        return self._cycle.disconnected

    def write(self, data: bytes) -> None:
        """Write a piece as one chunk (RFC 9112, 7.1)."""
        self.sent = self._loop.time()
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def left(self) -> None:
        """Report that the client has left."""
        if self.on_left is not None:
            self.on_left()
