"""uvicorn's HTTP protocol with limits that it lacks. It passes on one request at a time.

uvicorn with httptools has four problems. It reads a header of 20 MB. It waits for ever for the rest of a request. It
loses the body of a POST that offers an upgrade to HTTP/2, as Java's client does. It does not notice that a client
leaves once a second request was pipelined. So this protocol collects and checks the head of a request before the parser
gets it. Bytes after a complete request wait until its response is complete.
"""

import asyncio
import logging
import re
from functools import partial
from typing import Literal, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from dialgraph.environment import REAL
from server.connection.body_stream import BodyStream
from server.connection.extensions import ABORT, BODY_STREAM, CAME, VANISHED
from server.connection.heads import is_readable, without_upgrade
from server.connection.http_1_0 import PlainReply
from server.connection.vanished import has_vanished
from server.connection.websockets import asks_for_websocket, has_websocket
from server.errors import ApiError

log = logging.getLogger(__name__)

MAX_HEADER_BYTES = 64 * 1024
MAX_WAITING_BYTES = 256 * 1024
"""The most bytes of pipelined requests that may wait while a response runs."""
HEADER_SECONDS = 10.0
BODY_SECONDS = 10.0
"""The time for a small body. A larger body gets more time for the bytes that have come."""
LINGER_SECONDS = 10.0
"""The time for the rest of a body whose request has been answered."""
BODY_BYTES_A_SECOND = 32 * 1024
"""The slowest rate of a larger body. A poor uplink reaches it; a client that only wants to hold a connection does not.
"""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)


class LimitedProtocol(HttpToolsProtocol):
    """One HTTP connection with limits of size and time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Start to wait for the first head."""
        super().connection_made(transport)
        self._waiting = bytearray()
        self._phase: Literal["head", "body", "answer"] = "head"
        self._body_left: int | None = None
        """Bytes of the body that have not come yet. None: the body is chunked, and only the parser knows its end."""
        self._body_bytes = 0
        self._trailer_bytes = 0
        self._closes_behind_body = False
        self._answered = False
        self._stream: BodyStream | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._expect_within(HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer, and report to the running reply that the client has left."""
        self._disarm()
        super().connection_lost(exc)
        if self._stream is not None:
            self._stream.left()

    def data_received(self, data: bytes) -> None:
        """Collect the bytes, and pass the parser those of the current request."""
        self._waiting += data
        if self._phase == "answer" and len(self._waiting) > MAX_WAITING_BYTES:
            self.transport.close()
            return
        try:
            self._advance()
        except Exception as error:  # noqa: BLE001 (bytes from strangers must not cause a traceback in the log)
            log.warning(
                "a connection was closed because its bytes were not valid HTTP", extra={"error": type(error).__name__}
            )
            self.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Drop the trailers of a chunked body: nothing reads them, and a late Host must not count."""
        if self._phase == "head":
            super().on_header(name, value)
            return
        self._trailer_bytes += len(name) + len(value)
        if self._trailer_bytes > MAX_HEADER_BYTES:
            self.transport.close()

    def on_message_begin(self) -> None:
        """Start a request, and add our extensions to its scope.

        After a chunked body the parser continues into the next request. That request is not answered.
        """
        if self._phase == "answer":
            self.cycle.keep_alive = False
            if self.cycle.response_complete:
                self.transport.close()
            raise ValueError("a request is pipelined after a chunked body")
        super().on_message_begin()
        ours = {ABORT: self.transport.abort, VANISHED: partial(has_vanished, self.transport)}
        self.scope["extensions"] = ours  # type: ignore[typeddict-item]  # our extensions are not tables

    def on_headers_complete(self) -> None:
        """Choose how to reply. An HTTP/1.0 client gets a reply without chunks (RFC 9112, 6.1)."""
        super().on_headers_complete()
        if self.parser.should_upgrade():
            return
        self.cycle.scope["extensions"][CAME] = REAL.now()  # type: ignore[assignment]  # our extension is not a table
        if self.parser.get_http_version() == "1.0":
            self.cycle.send = PlainReply(self.cycle)  # type: ignore[method-assign]
            return
        self._stream = BodyStream(self.cycle, self.transport)
        self.cycle.scope["extensions"][BODY_STREAM] = self._stream  # type: ignore[assignment]  # our extension is not a table

    def on_message_complete(self) -> None:
        """Stop the timer: the request is complete."""
        self._phase = "answer"
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin the next request, which may have come already."""
        super().on_response_complete()
        self._stream = None
        if self._phase == "body":  # the rest of the body is discarded, for a limited time
            self._answered = True
            self._expect_within(LINGER_SECONDS)
        if self._phase == "answer":
            self._next()
            if self._waiting:
                self.loop.call_soon(self._advance)

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP, in the usual error format. Do not write into a running response."""
        running: RequestResponseCycle | None = self.cycle  # uvicorn's type omits None, which is the first value
        if self.transport.is_closing():
            return
        if self._phase == "body" and self._answered:
            self.transport.close()
            return
        busy = running is not None and not running.response_complete
        if running is not None and busy and (running.response_started or self._phase == "answer"):
            running.keep_alive = False
            return
        self._refuse(ApiError(400, "The request is not valid HTTP/1.1.", code="invalid_http"), b"400 Bad Request")

    def _advance(self) -> None:
        while self._waiting and self._phase != "answer" and not self.transport.is_closing():
            if self._phase == "head" and not self._take_head():
                return
            if self._phase == "body":
                self._take_body()

    def _take_head(self) -> bool:
        """Pass the head to the parser if it is complete. Return False if more must come or the connection ends."""
        del self._waiting[: len(self._waiting) - len(self._waiting.lstrip(b"\r\n"))]
        end = self._waiting.find(b"\r\n\r\n")
        if len(self._waiting if end < 0 else self._waiting[:end]) > MAX_HEADER_BYTES:
            error = ApiError(431, f"The headers are larger than {MAX_HEADER_BYTES} bytes.", code="headers_too_large")
            self._refuse(error, b"431 Request Header Fields Too Large")
            return False
        if end < 0:
            if self._waiting and self._deadline is None:
                self._expect_within(HEADER_SECONDS)
            return False
        head = bytes(self._waiting[: end + 4])
        del self._waiting[: end + 4]
        if not is_readable(head):
            self.send_400_response("")
            return False
        if asks_for_websocket(head) and has_websocket(self.app, head):
            self._leave_http(head)
            return False
        length = _LENGTH.search(head)
        self._body_left = int(length.group(1)) if length else None
        self._body_bytes = 0
        self._body_began = self.loop.time()
        self._expect_within(BODY_SECONDS)
        super().data_received(without_upgrade(head))
        if self._phase == "head":
            self._phase = "body"
            self._answered = False
            self._expects = b"\r\nexpect:" in head.lower()
            whole = self._body_left is not None and len(self._waiting) >= self._body_left
            if not whole and not self.transport.is_closing():  # closing: it was not a request
                self.cycle.transport = cast(asyncio.Transport, _Lingering(self))
        return True

    def _leave_http(self, head: bytes) -> None:
        """Hand the connection over to uvicorn's WebSocket protocol, with the bytes that came after the head."""
        self._disarm()
        early = bytes(self._waiting)
        self._waiting.clear()
        super().data_received(head)
        if early and (protocol := self.transport.get_protocol()) is not self:
            cast(asyncio.Protocol, protocol).data_received(early)

    def close_behind_body(self) -> None:
        """Close when the request is complete. A client that is still sending would see a reset and not the reply."""
        refused_the_body = self._expects and not self._body_bytes and not self._waiting
        self._closes_behind_body = self._phase == "body" and self.cycle.response_complete and not refused_the_body
        if not self._closes_behind_body:
            self.transport.close()

    def _take_body(self) -> None:
        piece = bytes(self._waiting if self._body_left is None else self._waiting[: self._body_left])
        del self._waiting[: len(piece)]
        self._body_bytes += len(piece)
        if self._body_left is not None:
            self._body_left -= len(piece)
        super().data_received(piece)
        if self._phase == "answer" and self._closes_behind_body:
            self.transport.close()
        elif self._phase == "answer" and self.cycle.response_complete:
            self._next()  # the request was refused before its body had come
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _next(self) -> None:
        self._phase = "head"
        self._trailer_bytes = 0

    def _expect_within(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._phase == "body" and not self._answered:
            # The bytes that have come give more time. There is one timer per body, not one per piece.
            earned = self._body_began + BODY_SECONDS + self._body_bytes / BODY_BYTES_A_SECOND - self.loop.time()
            if earned > 0.01:
                self._expect_within(earned)
                return
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, error: ApiError, status: bytes) -> None:
        body = error.body()
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )
        self.transport.close()


class _Lingering:
    """The transport of a reply whose request has not arrived completely yet."""

    def __init__(self, protocol: LimitedProtocol) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        """Close the connection after the request's body: the reply was its last one (RFC 9112, 9.6)."""
        self._protocol.close_behind_body()
