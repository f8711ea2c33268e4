"""Paths as clients make them of a base address: a slash too many, `/v1` twice. Read as what was meant."""

import re
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

_SLASHES: Final = re.compile(r"//+")
_TWICE: Final = re.compile(r"(?:/v1)+(?=/v1(?:/|$))")


class TidyPaths:
    """Stands in front of the routes; nobody is redirected."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            path = scope["path"]
            if "//" in path or "/v1/v1" in path or (path.endswith("/") and path != "/"):
                scope = {**scope, "path": tidy(path)}
        await self._app(scope, receive, send)


def tidy(path: str) -> str:
    """Return the path without empty parts, with one `/v1` in a row, and without a slash at its end."""
    return _TWICE.sub("", _SLASHES.sub("/", path)).rstrip("/") or "/"
