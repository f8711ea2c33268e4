"""The app for `langgraph dev`, which serves our endpoints next to Studio. `dialgraph serve` creates its own app.

Other ASGI servers are refused, because they lack our limits: they accept headers of any size and requests that never
end, and do not notice when a client leaves. With several workers, each of them would run the same turn.
"""

import sys
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from server.app import create_app
from server.connection.extensions import ABORT
from server.errors import ApiError
from server.http.asgi_io import send_error
from server.logs import set_up_logging, set_up_logging_in_studio
from server.settings import load_settings

REFUSAL = "Start the server with `dialgraph serve`. Other ASGI servers are refused, because they lack its limits."
_OTHERS = frozenset({"uvicorn", "gunicorn", "granian", "hypercorn", "daphne"})


class OnlyOurServer:
    """Refuses requests that did not come through our protocol, unless Studio's server runs the app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request with 503, or pass it on to the app."""
        if scope["type"] == "http" and ABORT not in scope.get("extensions", {}) and "langgraph_api" not in sys.modules:
            await send_error(send, ApiError(503, REFUSAL, "server_error", "unsupported_server"))
            return
        await self._app(scope, receive, send)


def _started_by() -> set[str]:
    """Return the names of the program that was started, including `python -m NAME`."""
    program = Path(sys.argv[0])
    return {program.stem, program.parent.name}


if _started_by() & _OTHERS:
    raise SystemExit(f"dialgraph: {REFUSAL}")
settings = load_settings()
if "langgraph_api" in sys.modules:
    set_up_logging_in_studio(settings.log_level)
else:
    set_up_logging(settings.log_level, settings.log_format)
app = create_app(settings)
app.add_middleware(OnlyOurServer)
