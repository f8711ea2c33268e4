"""Corrects paths that clients build from a base address: an extra slash, or `/v1` twice."""

import re
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

_SLASHES: Final = re.compile(r"//+")
_TWICE: Final = re.compile(r"(?:/v1)+(?=/v1(?:/|$))")


class TidyPaths:
    """Middleware that corrects the path before the routes see it. It sends no redirects."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Correct the request's path and pass the request on."""
        if scope["type"] == "http":
            path = scope["path"]
            if "//" in path or "/v1/v1" in path or (path.endswith("/") and path != "/"):
                scope = {**scope, "path": tidy(path)}
        await self._app(scope, receive, send)


def tidy(path: str) -> str:
    """Return the path without empty parts, without a repeated `/v1`, and without a slash at its end."""
    return _TWICE.sub("", _SLASHES.sub("/", path)).rstrip("/") or "/"
