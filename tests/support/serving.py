"""The real server on a real socket, in the event loop of the test, and a client that sees the bytes."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from dialgraph.environment import REAL
from dialgraph.graph.compile import CompiledGraph, compile_graph
from dialgraph.graph.spec import Graph
from dialgraph.turn.node import Node
from server.app import create_app
from server.connection.guarded_protocol import guarded
from server.connection.uvicorn_options import uvicorn_options
from server.endpoints import Endpoint
from server.process.serve import DrainingServer
from server.process.sockets import listen
from server.settings import Settings
from server.state import ServerState

CHAT = "/chat/completions"


@dataclass
class Reply:
    """A whole reply, as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, parsed from JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """Return the error object of the body. Check that it has all its fields."""
        error: dict[str, Any] = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@dataclass
class Connection:
    """A client's TCP connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers of the next reply."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        return int(lines[0].split(" ")[1]), headers

    async def chunk(self) -> bytes:
        """Return the next chunk of a chunked body, or an empty one at its end."""
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    async def reply(self) -> Reply:
        """Return the next whole reply."""
        status, headers = await self.head()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while piece := await self.chunk():
                body += piece
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(status, headers, body)

    def reset(self) -> None:
        """Close the connection with RST."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def aclose(self) -> None:
        """Close the connection with FIN."""
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


@dataclass
class Served:
    """A running server."""

    app: FastAPI
    port: int
    server: DrainingServer
    connections: list[Connection] = field(default_factory=list)

    @property
    def base(self) -> str:
        """Return the base URL for OpenAI-compatible clients."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def state(self) -> ServerState:
        """Return the state that the routes share."""
        state: ServerState = self.app.state.dialgraph
        return state

    async def connect(self) -> Connection:
        """Open a new TCP connection."""
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.port))
        self.connections.append(connection)
        return connection

    def request(self, path: str, body: object, headers: dict[str, str] | None = None, method: str = "POST") -> bytes:
        """Return the bytes of a request."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"host": f"127.0.0.1:{self.port}", "content-type": "application/json", "content-length": len(data)}
        head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **(headers or {})}.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + data

    async def post(self, path: str, body: object, headers: dict[str, str] | None = None, method: str = "POST") -> Reply:
        """Send one request on a new connection and return its reply."""
        connection = await self.connect()
        await connection.send(self.request(path, body, headers, method))
        reply = await connection.reply()
        await connection.aclose()
        return reply

    async def get(self, path: str, headers: dict[str, str] | None = None) -> Reply:
        """Send a GET request on a new connection and return its reply."""
        return await self.post(path, b"", headers, "GET")

    async def ask(self, question: object = "hi", path: str = CHAT, **fields: Any) -> Reply:
        """Ask for a streamed answer to one user message. Return the reply."""
        body = {"messages": [{"role": "user", "content": question}], "stream": True, **fields}
        return await self.post(path, body)


class PromptServer(DrainingServer):
    """A server that stops within milliseconds. uvicorn checks ten times a second, too slow for hundreds of tests."""

    async def main_loop(self) -> None:
        """Check every 5 ms whether the server must stop."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(
    data_dir: Path,
    *graphs: tuple[Graph, list[Node]],
    most_connections: Any = None,
    environment: Any = REAL,
    **settings: Any,
) -> AsyncIterator[Served]:
    """Serve the shipped endpoints and these graphs. If no keys are set, auth is off unless `auth` says otherwise."""
    if not settings.get("api_keys") and not (data_dir / "keys.json").exists():
        settings.setdefault("auth", "none")
    app = create_app(Settings(data_dir=data_dir, **settings), environment)
    add_graphs(app, *graphs)
    listener = listen(Settings(port=0))
    listener.listen(2048)
    options = {**uvicorn_options(guarded(app.state.dialgraph.settings, most_connections)), "loop": "asyncio"}
    server = PromptServer(uvicorn.Config(app, timeout_graceful_shutdown=5, **options), app.state.dialgraph)
    server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]  # pytest handles the signals
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done(), task
        await asyncio.sleep(0.005)
    served = Served(app, listener.getsockname()[1], server)
    try:
        yield served
    finally:
        for connection in served.connections:
            await connection.aclose()
        server.should_exit = True
        await task


def add_graphs(
    app: FastAPI, *graphs: tuple[Graph, list[Node]], compiled: Sequence[tuple[Graph, CompiledGraph]] = ()
) -> None:
    """Serve graphs in addition to the shipped ones, as langgraph.json would."""
    from server.app import completion_routes

    state: ServerState = app.state.dialgraph
    for spec, nodes in graphs:
        state.endpoints[spec.name] = Endpoint(spec, compile_graph(spec, nodes))
    for spec, graph in compiled:
        state.endpoints[spec.name] = Endpoint(spec, graph)
    if graphs or compiled:
        app.router.routes[:0] = completion_routes(state)
