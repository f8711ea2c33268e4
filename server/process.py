"""The server process: uvicorn, stopped so that no caller is cut off without a word."""

import asyncio
import socket
import sys

import uvicorn
from fastapi import FastAPI

from server.app import create_app, prepare
from server.protocol import uvicorn_options
from server.settings import Settings, SettingsError
from server.state import ServerState

_AFTER_GRACE_SECONDS = 2
"""For the last frames; then uvicorn cancels what is left."""


class DrainingServer(uvicorn.Server):
    """On a signal: no new connections; turns go on for the grace period, then end with an error frame."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's shutdown, with the turns told in time."""
        self._state.draining = True
        end = asyncio.get_running_loop().call_later(self._state.settings.grace_seconds, self._state.stop_turns)
        try:
            await super().shutdown(sockets)
        finally:
            end.cancel()


def serve(settings: Settings) -> None:
    """Serve until a signal comes. Raises SettingsError or GraphError before anything listens."""
    app = create_app(settings)
    state: ServerState = app.state.dialgraph
    prepare(state)
    listener = _listen(settings)
    config = uvicorn.Config(
        app, timeout_graceful_shutdown=int(settings.grace_seconds + _AFTER_GRACE_SECONDS), **uvicorn_options()
    )
    server = DrainingServer(config, state)
    _announce(app, listener, state)
    server.run(sockets=[listener])


def _listen(settings: Settings) -> socket.socket:
    """A socket of our own, so that a port that is taken is one clear line."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        reason = (error.strerror or "it cannot be used").lower()
        raise SettingsError(f"Cannot listen on {settings.host}:{settings.port}: {reason}.") from None
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener


def _announce(app: FastAPI, listener: socket.socket, state: ServerState) -> None:
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    lines = [f"Dialgraph on {address} (auth: {state.authenticator.mode})"]
    width = max(len(endpoint.spec.route_path) for endpoint in state.endpoints.values())
    lines += [f"  {endpoint.spec.route_path:{width}}  {endpoint.spec.summary}" for endpoint in state.endpoints.values()]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
