"""`dialgraph serve --reload`: a supervisor that starts a new server when a source file changes.

The supervisor holds the listening socket. A new server takes new connections as soon as it is ready, and the old one
finishes its running turns. If the new one cannot start, the old one stays.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from threading import Thread
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from dialgraph.project import ROOT, langgraph_file
from server.connection.uvicorn_options import uvicorn_options
from server.errors import ApiError
from server.http.asgi_io import send_error
from server.logs import set_up_logging
from server.process.changes import changes
from server.process.serve import serve
from server.process.sockets import listen
from server.settings import Settings, SettingsError, load_settings

_NAMES_SHOWN = 5
_CHANGED, _MISTAKEN = b"1", b"m"
"""What a server tells its supervisor: that it takes connections or no more, or that it only waits for a mended file."""
_REFUSAL = "A file of this server's project has a mistake. The terminal of the server shows which one."


def serve_reloading(settings: Settings) -> None:
    """Serve, and start again after each change, until a signal comes. Raises SettingsError."""
    if sys.platform == "win32":
        raise SettingsError("`--reload` does not work on Windows. Use it in WSL.")
    listener = listen(settings)
    listener.listen(2048)
    os.environ["DIALGRAPH_HOST"], os.environ["DIALGRAPH_PORT"] = settings.host, str(listener.getsockname()[1])
    signal.signal(signal.SIGTERM, _interrupt)
    looks = changes(langgraph_file().resolve().parent)  # looks once before the server reads the files
    started: list[_Server] = [_Server(listener, first=True)]
    started[0].heard()
    try:
        for changed in looks:
            started = [server for server in started if not server.has_ended()]
            if changed:
                started = _replaced(started, _Server(listener, first=not started), changed)
    except KeyboardInterrupt:
        pass
    finally:
        for server in started:
            server.stop()
        for server in started:
            server.process.wait()


def _replaced(running: "list[_Server]", new: "_Server", changed: list[str]) -> "list[_Server]":
    """Return the servers that run now: the new one first, if it could start, and the old ones until they end."""
    more = f" and {len(changed) - _NAMES_SHOWN} more" if len(changed) > _NAMES_SHOWN else ""
    _say(f"Changed: {', '.join(changed[:_NAMES_SHOWN])}{more}.")
    began = time.monotonic()
    if not new.heard():
        waits = all(server.mistaken for server in running)
        _say("There is still a mistake." if waits else "The new version cannot start, so the old one stays.")
        return running
    for server in running:
        server.stop()
        server.heard()  # it takes no more connections
    _say(f"New turns use the new version, which started in {time.monotonic() - began:.1f} s.")
    return [new, *running]


class _Server:
    """A server in a process of its own. It ends with the supervisor."""

    def __init__(self, listener: socket.socket, *, first: bool) -> None:
        """Start it. `first`: there is no older one, so it must answer even if a file has a mistake."""
        self._told, telling = os.pipe()
        alive, self._alive = os.pipe()
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        descriptors = (listener.fileno(), telling, alive)
        # `-P`: nothing in the current folder may hide our packages.
        self.process = subprocess.Popen(  # noqa: S603 (our own module)
            [sys.executable, "-P", "-m", "server.process.reload", *map(str, descriptors), str(int(first))],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            pass_fds=descriptors,
        )
        os.close(telling)
        os.close(alive)
        self._open = True
        self.mistaken = False
        """Whether it only answers that a file has a mistake."""

    def heard(self) -> bool:
        """Wait until it takes connections, or takes no more. Return False if it has ended."""
        told = os.read(self._told, 1)
        self.mistaken = self.mistaken or told == _MISTAKEN
        return bool(told)

    def stop(self) -> None:
        """Let it finish its running turns and end."""
        self.process.terminate()

    def has_ended(self) -> bool:
        """Return whether it has ended. Then nothing of it is left open."""
        if self._open and self.process.poll() is not None:
            self._open = False
            os.close(self._told)
            os.close(self._alive)
        return not self._open


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def _child(listening: int, telling: int, alive: int, *, first: bool) -> None:
    """Serve on the socket of the supervisor, in the new process."""

    def tell(what: bytes = _CHANGED) -> None:
        os.write(telling, what)

    def follow() -> None:
        os.read(alive, 1)  # returns when the supervisor has ended
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=follow, daemon=True).start()
    listener = socket.socket(fileno=listening)
    try:
        settings = load_settings()
        set_up_logging(settings.log_level, settings.log_format)
        # The supervisor tells of each start and stop in one line; uvicorn would use seven.
        logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))
        serve(settings, listener, announce=first, tell=tell)
    except Exception as error:  # noqa: BLE001 (a saved file can raise any error, and the next save may fix it)
        sys.stderr.write(f"dialgraph: {error}\n")
        sys.stderr.flush()
        if not first:
            sys.exit(1)
        tell(_MISTAKEN)
        _serve_mistake(listener)


def _serve_mistake(listener: socket.socket) -> None:
    """Answer every request that a file has a mistake, until it is mended. Only the terminal shows which one it is."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send_error(send, ApiError(503, _REFUSAL, "server_error", "mistake_in_a_graph"))

    host, port = listener.getsockname()[:2]
    _say(f"Dialgraph waits on http://{host}:{port} until you mend this.")
    app: ASGIApp = answer
    uvicorn.Server(uvicorn.Config(app, lifespan="off", **uvicorn_options())).run(sockets=[listener])


if __name__ == "__main__":
    _child(*map(int, sys.argv[1:4]), first=sys.argv[4] == "1")
