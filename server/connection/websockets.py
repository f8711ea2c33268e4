"""Finds out which paths speak WebSocket. A connection may leave HTTP only for these paths."""

import re
from typing import Any, Final

from starlette.routing import Match

_UPGRADE: Final = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)
_CONNECTION: Final = re.compile(rb"\r\nconnection:[^\r\n]*\bupgrade\b", re.IGNORECASE)
_BODY: Final = re.compile(rb"\r\n(?:content-length|transfer-encoding):", re.IGNORECASE)


def asks_for_websocket(head: bytes) -> bool:
    """Return whether a request offers to continue as a WebSocket (RFC 6455, 4.1). A request with a body does not."""
    return (
        head.startswith(b"GET ")
        and head.partition(b"\r\n")[0].endswith(b" HTTP/1.1")
        and _UPGRADE.search(head) is not None
        and _CONNECTION.search(head) is not None
        and _BODY.search(head) is None
    )


def has_websocket(app: Any, head: bytes) -> bool:
    """Return whether the application has a WebSocket at the path of this head."""
    path = head.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1")
    scope = {"type": "websocket", "path": path, "root_path": "", "headers": [], "subprotocols": []}
    return any(route.matches(scope)[0] is Match.FULL for route in getattr(app, "routes", ()))
