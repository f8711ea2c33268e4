"""Request bodies: read only once it is known who sends them, and up to a limit (413 in our envelope)."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, ClassVar

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive

from dialgraph.users.accounts.accounts import Identity
from server.errors import ApiError
from server.http.body_room import BodyRoom, HeldBytes
from server.http.json_body import check_values

JSON_BYTES = 1024 * 1024
"""The largest body of a request that brings no file."""
DOOR_BYTES = 16 * 1024
"""The largest body of a request to register or log in, which strangers may send."""
FORM_BYTES = 64 * 1024
"""For what stands around a file."""


async def let_in(request: Request) -> None:
    """Let a request reach registration or login. Raises ApiError 401."""
    request.app.state.dialgraph.authenticator.admit(request.scope, request.headers)


LET_IN = [Depends(let_in)]
"""For the routes that take a password or a refresh token."""


class JsonRoute(APIRoute):
    """A route that takes JSON, or nothing. What it says is one user's, and kept by no proxy."""

    takes_a_file: ClassVar[bool] = False

    def limit(self, request: Request) -> int:
        """In bytes."""
        return DOOR_BYTES if self._is_door else JSON_BYTES

    @property
    def _is_door(self) -> bool:
        return any(one in LET_IN for one in self.dependencies)

    async def _let_in(self, request: Request) -> str:
        """The user who asks; empty for registration and login. Raises ApiError 401."""
        if self._is_door:
            await let_in(request)
            return ""
        identity: Identity = await request.app.state.dialgraph.authenticator.recognise(request.scope, request.headers)
        return identity.principal

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's, with the limit in front."""
        handle = super().get_route_handler()

        async def limited(request: Request) -> Response:
            limit = self.limit(request)
            # FastAPI reads the body before it checks who sends it: strangers could fill the memory or send for long.
            who = await self._let_in(request)
            room: BodyRoom = request.app.state.dialgraph.body_room
            with room.place(who) as place:
                if self.takes_a_file:
                    receive = _counted(request.receive, request.headers, limit)
                else:
                    body = await read_body(request.receive, request.headers, limit, place)
                    await check_values(body)
                    receive = _again(body, request.receive)
                response = await handle(Request(request.scope, receive))
            response.headers.setdefault("cache-control", "no-store")
            return response

        return limited


class UploadRoute(JsonRoute):
    """A route that takes a file."""

    takes_a_file = True

    def limit(self, request: Request) -> int:
        """See the settings."""
        limit: int = request.app.state.dialgraph.settings.upload_limit
        return limit + FORM_BYTES


def body_too_large(limit: int) -> ApiError:
    """The refusal. The connection stays: closed now, one who is still sending would see a reset and not the reason."""
    return ApiError(413, f"The body is larger than {limit} bytes.", code="body_too_large")


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int, place: HeldBytes | None = None) -> bytes:
    """Return the body, counted at its place if it has one.

    Raises ApiError 413 and 503, before it is read if its length is given, and ClientDisconnect.
    """
    length = _told_length(headers, limit)
    if place is not None:
        place.grow_to(length)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > limit:
            raise body_too_large(limit)
        if place is not None:
            place.grow_to(len(body))
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already."""
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _told_length(headers: Mapping[str, str], limit: int) -> int:
    """The length that the head gives, 0 if it gives none. Raises ApiError 413."""
    length = headers.get("content-length", "")
    told = int(length) if length.isdigit() else 0
    if told > limit:
        raise body_too_large(limit)
    return told


def _counted(receive: Receive, headers: Mapping[str, str], limit: int) -> Callable[[], Awaitable[Message]]:
    seen = 0
    _told_length(headers, limit)

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise body_too_large(limit)
        return message

    return counted
