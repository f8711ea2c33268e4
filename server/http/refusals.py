"""Logs and counts requests that were refused before a turn began: one line each, but never more than a few a second."""

import logging
from collections.abc import Callable
from typing import Any, Final

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dialgraph.environment import Environment

log = logging.getLogger("dialgraph.requests")

IN_A_TURN: Final = "dialgraph.in_a_turn"
"""Set in the extensions of a request whose turn has begun: the line of the turn tells how it ended."""
_LINES: Final = 10
"""The most lines for one status and code in WINDOW_SECONDS. Nobody may fill the disk with wrong requests."""
WINDOW_SECONDS: Final = 10.0
_NO_ROUTE: Final = "(unknown)"


class Refusals:
    """Middleware that notes every reply with a status of 400 or more."""

    def __init__(self, app: ASGIApp, *, count: Callable[[int, str], None], environment: Environment) -> None:
        """`count` is called with the status and the code of each refusal."""
        self._app = app
        self._count = count
        self._environment = environment
        self._window = 0.0
        self._told: dict[tuple[int, str], int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and look at the status of its reply."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        extensions = scope.setdefault("extensions", {})
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif status >= 400:
                if IN_A_TURN not in extensions:
                    self._note(scope, status, message.get("body", b""))
                status = 0
            await send(message)

        await self._app(scope, receive, noting)

    def _note(self, scope: Scope, status: int, body: bytes) -> None:
        code = code_in(body)
        self._count(status, code)
        now = self._environment.now()
        if now - self._window > WINDOW_SECONDS:
            for (earlier, its_code), count in self._told.items():
                if count > _LINES:
                    fields = {"status": earlier, "code": its_code, "count": count - _LINES}
                    log.warning("more requests were refused", extra=fields)
            self._window, self._told = now, {}
        count = self._told[status, code] = self._told.get((status, code), 0) + 1
        if count <= _LINES:
            fields = {"method": scope["method"], "path": path_of(scope), "status": status, "code": code}
            log.warning("a request was refused", extra=fields)


def path_of(scope: Scope) -> str:
    """Return the path of a request with `{name}` in place of its values. A path that no route has is not shown."""
    if "endpoint" not in scope:
        return _NO_ROUTE
    parts = str(scope["path"]).split("/")
    names = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    return "/".join(names.get(part, part) for part in parts)


def code_in(body: bytes) -> str:
    """Return the code in the body of an error, in any of our forms, or an empty text."""
    try:
        found: Any = orjson.loads(body)
        error = found["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    code = error.get("code") or error.get("type") if isinstance(error, dict) else ""
    return code if isinstance(code, str) else ""
