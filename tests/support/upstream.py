"""A scripted upstream over TCP. It sends OpenAI's event stream as scripted, and notes when a client leaves."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.support.providers import complaints

Action = tuple[Any, ...]
"""What the upstream does next: ("chunk", text) ("delta", {…}) ("finish", reason) ("usage", …) ("done",) ("headers",)
("raw", bytes) ("sleep", seconds) ("wait", event) ("fin",) ("rst",) ("hang",) ("status", code, headers, body)
("type", content type)."""

HEAD = {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "up"}


def event(data: object) -> bytes:
    """Return one event of the stream."""
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def delta(content: dict[str, Any], finish: str | None = None) -> bytes:
    """Return one chunk of the stream."""
    return event({**HEAD, "choices": [{"index": 0, "delta": content, "finish_reason": finish}]})


def says(*words: str, finish: str = "stop") -> list[Action]:
    """Return the script of a complete answer of these words."""
    return [*(("chunk", word) for word in words), ("finish", finish), ("done",)]


def calls(name: str, arguments: str = "{}", *, identity: str = "up_call") -> list[Action]:
    """Return the script of a complete answer: one tool call in two fragments."""
    start = {"index": 0, "id": identity, "type": "function", "function": {"name": name, "arguments": ""}}
    return [
        ("delta", {"role": "assistant", "content": None, "tool_calls": [start]}),
        ("delta", {"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}),
        ("finish", "tool_calls"),
        ("done",),
    ]


@dataclass
class Exchange:
    """One request and how it ended."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int
    began: float
    raw: bytes = b""
    """The body as it was sent."""
    left: float | None = None
    """When the client closed the connection, by time.monotonic."""
    sent: int = 0
    """The number of words sent."""


@dataclass
class Upstream:
    """A running upstream: its scripts, and the requests that it received."""

    url: str
    port: int
    scripts: list[Sequence[Action]]
    default: Sequence[Action]
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    deaf: bool = False
    """Whether it leaves GET requests without an answer."""
    strict: bool = True
    """Whether it checks requests against the rules of all providers."""
    complaints: list[str] = field(default_factory=list)
    """Rules of providers that requests have broken."""
    choose: Callable[[dict[str, Any]], Sequence[Action] | None] = lambda body: None

    @property
    def raw(self) -> list[bytes]:
        """Return the bodies of all requests as they were sent, in order."""
        return [exchange.raw for exchange in self.exchanges]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """Return the bodies of all requests, in order."""
        return [exchange.body for exchange in self.exchanges]

    async def until(self, condition: Callable[[], bool], seconds: float = 7.0) -> None:
        """Wait until the condition is true; fail if it does not become true in time.

        Seven seconds are less than the deadline for silence (8), which would end a stream that nobody has stopped.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not become true in time"
            await asyncio.sleep(0.002)


@asynccontextmanager
async def upstream(
    *scripts: Sequence[Action], default: Sequence[Action] = (), strict: bool = True
) -> AsyncIterator[Upstream]:
    """Run an upstream. The nth request gets the nth script, later ones the default. Fail if a request breaks a rule."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    state = Upstream(f"http://127.0.0.1:{port}/v1", port, list(scripts), default or says("Hello", " there", "."))
    state.strict = strict
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        state.connections += 1
        state.open += 1
        number = state.connections
        try:
            # Only the end of the test cancels this task. Without `suppress`, asyncio would log it at length.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await _exchange(state, number, reader, writer):
                    pass
        finally:
            state.open -= 1
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, sock=listener, backlog=1024)
    try:
        yield state
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not state.complaints, state.complaints[:3]


async def _exchange(state: Upstream, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    if method == "GET" and state.deaf:
        await reader.read(1)
        return False
    if method == "GET":
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        return True
    try:
        asked = {"form": body} if headers.get("content-type", "").startswith("multipart/") else json.loads(body)
    except ValueError:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        return True
    exchange = Exchange(path, headers, asked, number, time.monotonic(), body)
    state.exchanges.append(exchange)
    if state.strict and "messages" in asked:
        state.complaints += [f"{complaint}: {str(asked)[:600]}" for complaint in complaints(asked)]
    script = state.choose(exchange.body) or (state.scripts.pop(0) if state.scripts else state.default)
    watch = asyncio.create_task(_watch(reader, exchange))
    try:
        return await _play(script, exchange, writer, watch)
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def _watch(reader: asyncio.StreamReader, exchange: Exchange) -> None:
    """Note when the client leaves. It sends nothing more, so a read returns only then."""
    with suppress(ConnectionError):
        await reader.read(1)
    exchange.left = time.monotonic()


async def _play(
    script: Sequence[Action], exchange: Exchange, writer: asyncio.StreamWriter, watch: "asyncio.Task[None]"
) -> bool:
    begun = False
    content_type = "text/event-stream"

    def write(data: bytes) -> None:
        nonlocal begun
        if not begun:
            begun = True
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
            writer.write(head.encode())
        if data:
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    for action in script:
        if watch.done():
            return False
        match action:
            case ("chunk", text):
                write(delta({"content": text}))
                exchange.sent += 1
            case ("delta", content):
                write(delta(content))
            case ("finish", reason):
                write(delta({}, reason))
            case ("usage", usage):
                write(event({**HEAD, "choices": [], "usage": usage}))
            case ("done",):
                write(b"data: [DONE]\n\n")
            case ("headers",):
                write(b"")
            case ("type", kind):
                content_type = kind
            case ("raw", data):
                write(data)
            case ("sleep", seconds):
                await asyncio.wait({watch}, timeout=seconds)
            case ("wait", happened):
                going_on = asyncio.ensure_future(happened.wait())
                await asyncio.wait({watch, going_on}, return_when=asyncio.FIRST_COMPLETED)
                going_on.cancel()
            case ("hang",):
                await writer.drain()
                await watch
                return False
            case ("fin",):
                await writer.drain()
                return False
            case ("rst",):
                await writer.drain()
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            case ("status", code, headers, body):
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                head = f"HTTP/1.1 {code} Status\r\n{lines}content-length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
                return True
            case _:
                raise AssertionError(f"unknown action: {action}")
        await writer.drain()
    if begun:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True
