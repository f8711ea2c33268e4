"""Which paths speak WebSocket: only there a connection may leave HTTP."""

import re
from typing import Any, Final

from starlette.routing import Match

_UPGRADE: Final = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)


def asks_for_websocket(head: bytes) -> bool:
    """Return whether the head of a request offers to go on as a WebSocket (RFC 6455, 4.1)."""
    return head.startswith(b"GET ") and _UPGRADE.search(head) is not None


def has_websocket(app: Any, head: bytes) -> bool:
    """Return whether the application has a WebSocket at the path of this head."""
    path = head.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1")
    scope = {"type": "websocket", "path": path, "root_path": "", "headers": [], "subprotocols": []}
    return any(route.matches(scope)[0] is Match.FULL for route in getattr(app, "routes", ()))
