"""`dialgraph serve --reload`: a supervisor that starts the server again when a source file changes."""

import os

import uvicorn

from graphs.settings import ROOT
from server.protocol import uvicorn_options
from server.settings import Settings


def serve_reloading(settings: Settings) -> None:
    """uvicorn's own reloader; the app is made anew by `server.asgi` in each new process."""
    os.environ["DIALGRAPH_HOST"], os.environ["DIALGRAPH_PORT"] = settings.host, str(settings.port)
    uvicorn.run(
        "server.asgi:app",
        host=settings.host,
        port=settings.port,
        reload=True,
        timeout_graceful_shutdown=1,  # for development: a change is worth more than a running turn
        reload_dirs=[str(ROOT / name) for name in ("graphs", "nodes", "models", "knowledge", "speech", "server")],
        **uvicorn_options(),
    )
