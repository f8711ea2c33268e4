"""ASGI: whole replies, and the watch for a client that leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from server.errors import ApiError, error_reply_for, shutting_down

EVENT_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}  # nginx would hold the words back
_ONCE = frozenset({"authorization", "content-length", "content-type", "host", "origin"})


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers by lower-case name. Raises ApiError if one that decides who is let in comes twice."""
    headers: dict[str, str] = {}
    for raw_name, value in scope["headers"]:
        name = raw_name.decode("latin-1")
        if name in _ONCE and name in headers:
            raise ApiError(400, f"The header {name!r} is given twice.", code="duplicate_header")
        headers[name] = value.decode("latin-1")
    return headers


class Replying:
    """A `send` that knows whether the reply has begun: then it is too late for another one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def __call__(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


@asynccontextmanager
async def run_with_one_reply(
    send: Replying, where: str, refuse: Callable[[ApiError], Awaitable[None]]
) -> AsyncIterator[None]:
    """The boundary of a request: whatever is wrong is told to the client, unless his reply has begun."""
    try:
        yield
    except ClientDisconnect:
        return
    except asyncio.CancelledError:  # the grace period has ended
        if send.begun:
            raise
        await refuse(shutting_down())
    except Exception as error:
        if send.begun:
            raise
        await refuse(error_reply_for(error, where))


async def send_json(send: Send, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """A whole JSON reply."""
    lines = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    lines += [(b"cache-control", b"no-store")]
    lines += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def send_stream(send: Send, media_type: str, body: bytes) -> None:
    """A stream that is whole already."""
    lines = [(b"content-type", media_type.encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError, headers: Mapping[str, str] | None = None) -> None:
    """The envelope with its status."""
    await send_json(send, error.status, orjson.dumps(error.envelope()), {**error.headers, **(headers or {})})


@asynccontextmanager
async def watched(receive: Receive) -> AsyncIterator[asyncio.Event]:
    """Set when the client leaves within the block."""
    gone = asyncio.Event()

    async def watch() -> None:
        await wait_for_disconnect(receive)
        gone.set()

    watching = asyncio.create_task(watch())
    try:
        yield gone
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
