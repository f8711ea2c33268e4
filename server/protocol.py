"""uvicorn's HTTP protocol with the limits that it lacks: on the size of the headers and on the time they may take."""

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import ApiError

MAX_HEADER_BYTES = 64 * 1024
"""uvicorn with httptools reads a header of 20 MB."""
HEADER_SECONDS = 10.0
BODY_SECONDS = 60.0
"""For the whole body: 20 MB over a telephone's uplink."""


class LimitedProtocol(HttpToolsProtocol):
    """Answers 431 to long headers, and closes a connection that sends its request too slowly."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Start the clock."""
        super().connection_made(transport)
        self._header_bytes = 0
        self._in_body = False
        self._deadline: asyncio.TimerHandle | None = None
        self._expect_within(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what is not a body; the parser itself has no limit."""
        if not self._in_body:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES and b"\r\n\r\n" not in data[: MAX_HEADER_BYTES + 4]:
                self._refuse()
                return
            if self._deadline is None:
                self._expect_within(HEADER_SECONDS)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """From here on the body is counted, by whoever reads it."""
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > MAX_HEADER_BYTES:
            self._refuse()
            return
        self._in_body = True
        self._expect_within(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole; the next one on this connection is counted anew."""
        self._in_body = False
        self._header_bytes = 0
        self._disarm()
        super().on_message_complete()

    def _expect_within(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self) -> None:
        if self.transport.is_closing():
            return
        error = ApiError(431, f"The headers are larger than {MAX_HEADER_BYTES} bytes.", code="headers_too_large")
        body = orjson.dumps(error.envelope())
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()


def uvicorn_options() -> dict[str, Any]:
    """What every server of ours is started with."""
    return {
        "http": LimitedProtocol,
        "timeout_keep_alive": 75,  # a pause in a call must not cost the next turn a handshake
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,  # nothing that a client can write is believed
    }
