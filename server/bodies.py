"""Routes whose bodies have a limit: 413 in our envelope, before the body is read or while it is."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Message, Receive

from server.errors import ApiError

JSON_BYTES = 1024 * 1024
"""The largest body of a request that brings no file."""
FORM_BYTES = 64 * 1024
"""For what stands around a file."""


class JsonRoute(APIRoute):
    """A route that takes JSON, or nothing. What it says is one user's, and kept by no proxy."""

    def limit(self, request: Request) -> int:
        """In bytes."""
        return JSON_BYTES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's, with the limit in front."""
        handle = super().get_route_handler()

        async def limited(request: Request) -> Response:
            limit = self.limit(request)
            length = request.headers.get("content-length", "")
            if length.isdigit() and int(length) > limit:
                raise body_too_large(limit)
            response = await handle(Request(request.scope, _counted(request.receive, limit)))
            response.headers.setdefault("cache-control", "no-store")
            return response

        return limited


class UploadRoute(JsonRoute):
    """A route that takes a file."""

    def limit(self, request: Request) -> int:
        """See the settings."""
        limit: int = request.app.state.dialgraph.settings.upload_limit
        return limit + FORM_BYTES


def body_too_large(limit: int) -> ApiError:
    """The refusal. The connection stays: closed now, one who is still sending would see a reset and not the reason."""
    return ApiError(413, f"The body is larger than {limit} bytes.", code="body_too_large")


def _counted(receive: Receive, limit: int) -> Callable[[], Awaitable[Message]]:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise body_too_large(limit)
        return message

    return counted
