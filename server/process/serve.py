"""The server process: runs uvicorn, and stops it so that every running turn gets time to end."""

import asyncio
import gc
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL
from typing import Final

import uvicorn

from dialgraph.storage.database import Database
from dialgraph.storage.errors import DatabaseAwayError
from dialgraph.users.accounts.keys import holds_keys
from server.access.access_token import FILE
from server.app import create_app, prepare
from server.connection.guarded_protocol import guarded
from server.connection.uvicorn_options import uvicorn_options
from server.settings import Settings, SettingsError
from server.state import ServerState

_SWITCH_SECONDS = 0.0005
"""How long a computing thread may keep the event loop waiting. With Python's own 5 ms a frame of sound is late."""
_MMAP_THRESHOLD: Final = -3
"""M_MMAP_THRESHOLD of mallopt(3)."""
_OWN_MAPPING_BYTES: Final = 512 * 1024
_LOOK_SECONDS = 1.0
"""The pause between two tries to reach a database that does not answer at the start."""
_CLOSED_SECONDS = 0.05
"""After this time, listeners and idle connections are closed."""
_AFTER_GRACE_SECONDS = 1
"""The time for the last frames. After that uvicorn cancels what still runs."""


class DrainingServer(uvicorn.Server):
    """A server that, on a signal, takes no new connections. Turns continue for the grace period and then end with an
    error frame.
    """

    def __init__(self, config: uvicorn.Config, state: ServerState, tell: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._state = state
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, and tell that the server takes connections."""
        await super().startup(sockets)
        if self.started:
            self._tell()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle uvicorn's signals and SIGHUP, so that a terminal that closes does not cut off a caller."""
        with super().capture_signals():
            before = signal.signal(signal.SIGHUP, self.handle_exit) if hasattr(signal, "SIGHUP") else None
            try:
                yield
            finally:
                if before is not None:
                    signal.signal(signal.SIGHUP, before)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down as uvicorn does, but end the running turns when the grace period is over."""
        self._state.draining = True
        # uvicorn closes the listeners and the idle connections first, and then waits for a tenth of a second.
        asyncio.get_running_loop().call_later(_CLOSED_SECONDS, self._tell)
        end = asyncio.get_running_loop().call_later(self._state.settings.grace_seconds, self._state.runs.stop)
        try:
            await super().shutdown(sockets)
        finally:
            end.cancel()


def serve(
    settings: Settings, listener: socket.socket, *, announce: bool = True, tell: Callable[[], None] = lambda: None
) -> None:
    """Serve on a bound socket until a signal comes. Raises SettingsError or GraphError before the first request.

    `announce`: print the addresses. `tell` is called when the server takes connections, and when it takes no more.
    """
    app = create_app(settings)
    state: ServerState = app.state.dialgraph
    _leave_no_core()
    give_memory_back()
    prepare(state)
    _open_database(state)
    config = uvicorn.Config(
        app,
        timeout_graceful_shutdown=int(settings.grace_seconds + _AFTER_GRACE_SECONDS),
        **uvicorn_options(guarded(settings)),
    )
    listener.listen(2048)
    if announce:
        _announce(listener, state)
    # The 200,000 objects that exist now will stay. Each collection that searched them took 100 ms, without any sound.
    gc.collect()
    gc.freeze()
    gc.enable()
    sys.setswitchinterval(_SWITCH_SECONDS)
    DrainingServer(config, state, tell).run(sockets=[listener])


def _open_database(state: ServerState) -> None:
    """Run the missing migrations. Wait for a database that does not answer now but may later. Raises DatabaseError."""
    database = state.services.database
    waiting = False
    while True:
        try:
            database.prepare()
            break
        except DatabaseAwayError as error:
            if not waiting:
                sys.stderr.write(f"dialgraph: {error}. The server starts as soon as it answers.\n")
            waiting = True
            time.sleep(_LOOK_SECONDS)
    if state.authenticator.mode == "none" and database.engine != "sqlite":
        asyncio.run(_refuse_none(state.settings))


async def _refuse_none(settings: Settings) -> None:
    """Raise SettingsError if the database holds users' keys: then the users rely on being asked for them."""
    database = Database(settings.database_url.get_secret_value(), settings.data_dir)
    try:
        if await holds_keys(database):
            raise SettingsError(
                "Setting 'auth' is 'none', but this database holds users' API keys. Leave DIALGRAPH_AUTH empty, or set"
                " it to 'keys'."
            )
    finally:
        await database.aclose()


def give_memory_back() -> None:
    """Make glibc return large blocks to the system as soon as they are free. By default it keeps ever larger blocks."""
    with suppress(OSError, AttributeError):  # another C library
        CDLL(None).mallopt(_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)


def _leave_no_core() -> None:
    """Disable core dumps, because a dump of the memory would contain every key."""
    try:
        import resource
    except ImportError:  # Windows has neither this module nor core dumps
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
    """Return the lines that show the token and a command to paste."""
    return [
        "",
        f"No key is configured, so every request needs this token. It is stored in {settings.data_dir / FILE}.",
        "It is also the API key to give to a voice platform. Try it:",
        "",
        f"curl -N {url} -H 'Authorization: Bearer {token}' \\",
        """  -H 'Content-Type: application/json' \\""",
        """  -d '{"stream": true, "messages": [{"role": "user", "content": "Can I bring my dog?"}]}'""",
    ]
