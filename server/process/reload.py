"""`dialgraph serve --reload`: a supervisor that restarts the server when a source file changes."""

import os
import sys

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from dialgraph.project import ROOT
from dialgraph.shadowing import PACKAGES
from server.access.auth import Authenticator
from server.connection.uvicorn_options import uvicorn_options
from server.errors import ApiError
from server.http.asgi_io import send_error
from server.process.serve import token_lines
from server.settings import Settings


def serve_reloading(settings: Settings) -> None:
    """Serve with uvicorn's reloader, which creates the app again in each new process."""
    lines = [f"Dialgraph on http://{settings.host}:{settings.port}; it starts again when a file changes"]
    if token := Authenticator(settings).token:
        lines += token_lines(f"http://127.0.0.1:{settings.port}/rag/chat/completions", token, settings)
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    os.environ["DIALGRAPH_HOST"], os.environ["DIALGRAPH_PORT"] = settings.host, str(settings.port)
    uvicorn.run(
        "server.process.reload:make_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        reload=True,
        timeout_graceful_shutdown=1,  # in development a quick restart matters more than a running turn
        reload_dirs=[str(ROOT / name) for name in PACKAGES],
        **uvicorn_options(),
    )


def make_app() -> ASGIApp:
    """Return the app. If a file has an error, return an app that answers every request with the error message."""
    try:
        from server.asgi import app
    except Exception as error:  # noqa: BLE001 (a saved file can raise any error, and the next save may fix it)
        sys.stderr.write(f"dialgraph: {error}\n")
        return _mistaken(str(error))
    return app


def _mistaken(sentence: str) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send_error(send, ApiError(503, sentence, "server_error", "mistake_in_a_graph"))

    return answer
