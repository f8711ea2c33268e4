"""One HTTP reply: its status line, its keep-alives, its end, and a client that leaves or reads nothing.

The status line is sent with the first bytes or the first keep-alive. After that, a failure is sent inside the stream.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from starlette.types import Receive, Scope, Send

from server.connection.body_stream import BodyStream
from server.connection.extensions import ABORT, BODY_STREAM, VANISHED
from server.http.asgi_io import EVENT_HEADERS, send_json, wait_for_disconnect

_LOOK_SECONDS: Final = 2.5
"""Between two checks for a client that has vanished."""
_STREAM_HEADERS: Final = [(name.encode(), value.encode()) for name, value in EVENT_HEADERS.items()]


class HttpReply:
    """The reply to one request. Inside `async with`, its client is watched."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        media_type: str,
        keep_alive: bytes,
        keepalive_seconds: float,
        patience_seconds: float,
        leave: Callable[[], None],
        timing: Callable[[], bytes],
    ) -> None:
        """`keep_alive`: the bytes that a silent stream sends; empty for none. `keepalive_seconds`: the silence before
        them. `patience_seconds`: how long a client may read nothing. `leave` is called when the client has left.
        `timing` returns the header Server-Timing of a stream.
        """
        self.begun = False
        """Whether the status line was sent."""
        self.gone = False
        """Whether the client has left."""
        self._receive = receive
        self._send = send
        self._headers = [(b"content-type", media_type.encode()), *_STREAM_HEADERS]
        self._keep_alive = keep_alive
        self._pause = keepalive_seconds
        self._patience = patience_seconds
        self._leave = leave
        self._timing = timing
        extensions = scope.get("extensions", {})
        self._abort: Callable[[], None] | None = extensions.get(ABORT)
        self._vanished: Callable[[], bool] | None = extensions.get(VANISHED)
        self.body: BodyStream | None = extensions.get(BODY_STREAM)
        """Writes pieces without waiting, once the reply has begun. None if the server does not use our protocol."""
        self._loop = asyncio.get_running_loop()
        self._sent = self._loop.time()
        self._sending = False
        self._ended = False
        self._comment: asyncio.Task[None] | None = None
        self._look: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        """Waits for the client to leave, if the server does not use our protocol."""

    async def __aenter__(self) -> Self:
        self._look = self._loop.call_later(min(self._pause, self._patience, _LOOK_SECONDS), self._look_again)
        if self.body is None:
            self._watch = asyncio.create_task(self._wait_for_disconnect())
        elif self.body.is_left:
            self._client_left()
        else:
            self.body.on_left = self._client_left
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self.body is not None:
            self.body.on_left = None
        if self._look is not None:
            self._look.cancel()
        if self._comment is not None:
            self._comment.cancel()

    async def stream(self, data: bytes, *, last: bool = False) -> None:
        """Send these bytes. The first ones are sent after the status line."""
        self._ended = self._ended or last
        if self._comment is not None and not self._comment.done():
            await asyncio.wait({self._comment})
        await self._put(data, last=last)

    async def whole(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send the whole reply as JSON."""
        self._ended, self._sent, self._sending = True, self._loop.time(), True
        try:
            await send_json(self._send, status, body, headers)
        finally:
            self._sending = False

    async def _put(self, data: bytes, *, last: bool) -> None:
        self._sent, self._sending = self._loop.time(), True
        try:
            if not self.begun:
                self.begun = True
                headers = [*self._headers, (b"server-timing", self._timing())]
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send({"type": "http.response.body", "body": data, "more_body": not last})
        finally:
            self._sending = False

    async def _wait_for_disconnect(self) -> None:
        await wait_for_disconnect(self._receive)
        self._client_left()

    def _client_left(self) -> None:
        if not self.gone:
            self.gone = True
            self._leave()

    def _look_again(self) -> None:
        """Send a keep-alive if nothing was sent for a while. Give up a client that reads nothing any more.

        One timer for each reply costs less than one for each chunk.
        """
        sent = self._sent if self.body is None else max(self._sent, self.body.sent)
        silent = self._loop.time() - sent
        if (self._sending and silent >= self._patience) or (self._vanished is not None and self._vanished()):
            self._client_left()
            if self._abort is not None:
                self._abort()
            return
        if self._sending:
            rest = min(self._pause, self._patience - silent)
        elif self._keep_alive and not self._ended and silent >= self._pause:
            # It needs its own task: a client that does not read must not block this timer.
            self._comment = asyncio.create_task(self._put(self._keep_alive, last=False))
            rest = self._pause
        else:
            rest = self._pause - silent if self._keep_alive else self._pause
        self._look = self._loop.call_later(max(min(rest, self._patience, _LOOK_SECONDS), 0.05), self._look_again)
