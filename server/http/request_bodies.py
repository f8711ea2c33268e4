"""Request bodies: they are read only after authentication, and up to a limit (413 in our envelope)."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, ClassVar

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive

from dialgraph.users.accounts.accounts import Identity
from server.access.auth import Requester
from server.errors import ApiError
from server.http.body_room import BodyRoom, HeldBytes
from server.http.json_body import check_values

JSON_BYTES = 1024 * 1024
"""The largest body of a request without a file."""
DOOR_BYTES = 16 * 1024
"""The largest body of a request to register or log in, which anybody may send."""
FORM_BYTES = 64 * 1024
"""Room for the parts of a form around its file."""


async def let_in(request: Request) -> None:
    """Check that a request may reach registration or login. Raises ApiError 401."""
    request.app.state.dialgraph.authenticator.admit(request.scope, request.headers)


LET_IN = [Depends(let_in)]
"""The dependency of the routes to register, log in and refresh tokens."""


class JsonRoute(APIRoute):
    """A route that takes JSON or no body. Its replies belong to one user, so no proxy may cache them."""

    takes_a_file: ClassVar[bool] = False

    def limit(self, request: Request) -> int:
        """Return the largest body, in bytes."""
        return DOOR_BYTES if self._is_door else JSON_BYTES

    @property
    def _is_door(self) -> bool:
        return any(one in LET_IN for one in self.dependencies)

    async def _let_in(self, request: Request) -> str:
        """Return the user's principal; empty for registration and login. Raises ApiError 401."""
        if self._is_door:
            await let_in(request)
            return ""
        identity: Identity = await request.app.state.dialgraph.authenticator.recognise(request.scope, request.headers)
        return identity.principal

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, with authentication and the limit before it."""
        handle = super().get_route_handler()

        async def limited(request: Request) -> Response:
            limit = self.limit(request)
            # FastAPI reads the body before it checks who sends it: anybody could fill the memory or send forever.
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


class ClientRoute(JsonRoute):
    """A route for every client that may use the endpoints, not only for users."""

    async def _let_in(self, request: Request) -> str:
        """Return the client's principal. Raises ApiError 401 and 403."""
        state = request.app.state.dialgraph
        requester: Requester = await state.authenticator.authenticate(request.scope, request.headers)
        return requester.principal


class UploadRoute(JsonRoute):
    """A route that takes a file."""

    takes_a_file = True

    def limit(self, request: Request) -> int:
        """Return the largest upload of the settings, with room for the rest of the form, in bytes."""
        limit: int = request.app.state.dialgraph.settings.upload_limit
        return limit + FORM_BYTES


def body_too_large(limit: int) -> ApiError:
    """Return the error 413.

    The connection stays open: if it were closed now, a client that is still sending would see a reset, not the reason.
    """
    return ApiError(413, f"The body is larger than {limit} bytes.", code="body_too_large")


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int, place: HeldBytes | None = None) -> bytes:
    """Return the body, and count its bytes at `place`.

    Raises ApiError 413 if it is too large and 503 if there is no room: before reading, if the head gives its length.
    Raises ClientDisconnect if the client leaves.
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
    """Return a `receive` that gives a body that was already read."""
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _told_length(headers: Mapping[str, str], limit: int) -> int:
    """Return the length that the head gives, or 0 if it gives none. Raises ApiError 413."""
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
