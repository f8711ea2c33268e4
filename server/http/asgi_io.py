"""ASGI helpers: whole replies, and the watch for a client that leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from server.errors import ApiError, error_reply_for, shutting_down

EVENT_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}  # without it nginx would buffer the words
_ONCE = frozenset({"authorization", "content-length", "content-type", "host", "origin"})


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the request's headers by lower-case name.

    Raises ApiError 400 if a header that must be unique, such as `authorization`, occurs twice.
    """
    headers: dict[str, str] = {}
    for raw_name, value in scope["headers"]:
        name = raw_name.decode("latin-1")
        if name in _ONCE and name in headers:
            raise ApiError(400, f"The header {name!r} must not occur twice.", code="duplicate_header")
        headers[name] = value.decode("latin-1")
    return headers


class Replying:
    """A `send` that knows whether the reply has begun. After that, no other reply can be sent."""

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
    """Send every error inside the block to the client with `refuse`; raise it if the reply has already begun."""
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
    """Send a whole JSON reply."""
    lines = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    lines += [(b"cache-control", b"no-store")]
    lines += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def send_stream(send: Send, media_type: str, body: bytes) -> None:
    """Send a stream whose bytes are already complete."""
    lines = [(b"content-type", media_type.encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError, headers: Mapping[str, str] | None = None) -> None:
    """Send the error's envelope with its status."""
    await send_json(send, error.status, orjson.dumps(error.envelope()), {**error.headers, **(headers or {})})


@asynccontextmanager
async def watched(receive: Receive) -> AsyncIterator[asyncio.Event]:
    """Yield an event that is set when the client leaves during the block."""
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
