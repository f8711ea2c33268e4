"""The server process: uvicorn, stopped so that no caller is cut off without a word."""

import asyncio
import gc
import socket
import sys

import uvicorn

from server.access_token import FILE
from server.app import create_app, prepare
from server.protocol import uvicorn_options
from server.settings import Settings
from server.state import ServerState

_SWITCH_SECONDS = 0.0005
"""After which a thread that computes lets the event loop go on; Python's own 5 ms are a late frame of sound."""
_AFTER_GRACE_SECONDS = 1
"""For the last frames; then uvicorn cancels what is left."""


class DrainingServer(uvicorn.Server):
    """On a signal: no new connections; turns go on for the grace period, then end with an error frame."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's shutdown, with the turns told in time."""
        self._state.draining = True
        end = asyncio.get_running_loop().call_later(self._state.settings.grace_seconds, self._state.turns.stop)
        try:
            await super().shutdown(sockets)
        finally:
            end.cancel()


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve on a bound socket until a signal comes. Raises SettingsError or GraphError before it takes a call."""
    app = create_app(settings)
    state: ServerState = app.state.dialgraph
    _leave_no_core()
    prepare(state)
    if state.services.database.engine == "sqlite":  # a PostgreSQL that is away may come back
        state.services.database.prepare()
    config = uvicorn.Config(
        app, timeout_graceful_shutdown=int(settings.grace_seconds + _AFTER_GRACE_SECONDS), **uvicorn_options()
    )
    listener.listen(2048)
    listener.set_inheritable(True)
    _announce(listener, state)
    # The 200,000 objects that are there now will stay. Looking through them took 100 ms each time, without a word said.
    gc.collect()
    gc.freeze()
    gc.enable()
    sys.setswitchinterval(_SWITCH_SECONDS)
    DrainingServer(config, state).run(sockets=[listener])


def _leave_no_core() -> None:
    """A dump of the memory would hold every key."""
    try:
        import resource
    except ImportError:  # Windows has neither
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _announce(listener: socket.socket, state: ServerState) -> None:
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    mode = state.authenticator.mode
    lines = [f"Dialgraph on {address} (auth: {mode})"]
    width = max(len(endpoint.spec.route_path) for endpoint in state.endpoints.values())
    lines += [f"  {endpoint.spec.route_path:{width}}  {endpoint.spec.summary}" for endpoint in state.endpoints.values()]
    if mode == "token":
        endpoint = state.endpoints.get("rag") or next(iter(state.endpoints.values()))
        token = state.authenticator.token
        lines += token_lines(f"http://127.0.0.1:{port}{endpoint.spec.route_path}", token, state.settings)
    elif mode == "none":
        lines += ["", "Anybody who reaches this port is answered, also through a proxy or tunnel on this machine."]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def token_lines(url: str, token: str, settings: Settings) -> list[str]:
    """Say what a request must bring, with a line to paste."""
    return [
        "",
        f"No key is configured, so every request needs this token, kept in {settings.data_dir / FILE}.",
        "It is also the API key to give to a voice platform. Try it:",
        "",
        f"curl -N {url} -H 'Authorization: Bearer {token}' \\",
        """  -H 'Content-Type: application/json' \\""",
        """  -d '{"stream": true, "messages": [{"role": "user", "content": "Can I bring my dog?"}]}'""",
    ]
