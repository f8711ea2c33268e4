"""How soon the upstream's connection is closed after the client leaves: `python -m benchmarks.leaving`.

A barge-in must stop the model immediately. Tokens that it writes after that cost money, and nobody hears them.
"""

import asyncio
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvloop

from benchmarks.hot_path import started, wait_until_ready
from benchmarks.upstream import HEADERS, WORD

STREAMS = 100
ROUNDS = 3
LONGEST_WAIT = 10.0


class Model(asyncio.Protocol):
    """A model that says one word and then waits. It records when each connection is closed, by the request's number."""

    closed: dict[str, float]
    all_closed: asyncio.Event

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._number = ""

    def data_received(self, data: bytes) -> None:
        if b'"stream"' in data:
            self._number = data.partition(b"number ")[2].partition(b" ")[0].decode()
            self._transport.write(HEADERS + WORD)
        elif data.startswith(b"GET"):
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._number:
            self.closed[self._number] = time.monotonic()
            if len(self.closed) == STREAMS:
                self.all_closed.set()


async def _leave(base: str, path: str, *, reset: bool) -> list[float]:
    """Return, for each stream, the seconds between the close by the client and the close of the upstream."""
    host, port = base.removeprefix("http://").split(":")
    Model.closed, Model.all_closed = {}, asyncio.Event()
    writers = []
    for number in range(STREAMS):
        reader, writer = await asyncio.open_connection(host, int(port))
        body = b'{"stream": true, "messages": [{"role": "user", "content": "number %d of all"}]}' % number
        head = f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await reader.readuntil(b"word")
        writers.append(writer)
    left: dict[str, float] = {}
    for number, writer in enumerate(writers):
        if reset:
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left[str(number)] = time.monotonic()
        writer.transport.abort() if reset else writer.close()
        await asyncio.sleep(0.001)
    await asyncio.wait_for(Model.all_closed.wait(), LONGEST_WAIT)
    return sorted(Model.closed[number] - at for number, at in left.items())


@contextmanager
def _served(upstream: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as data:
        environment = {
            "LLM_BASE_URL": upstream, "DIALGRAPH_DATA_DIR": data, "DIALGRAPH_AUTH": "none",
            "DIALGRAPH_LOG_LEVEL": "error",
        }  # fmt: skip
        with started([sys.executable, "-m", "server.cli", "serve", "--port", "0"], r"(http\S+)", environment) as (
            base,
            _,
        ):
            yield base


async def main() -> None:
    """Measure, and print the table."""
    listening = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", 0, backlog=1024)
    Model.closed, Model.all_closed = {}, asyncio.Event()
    lines = ["| endpoint | how the caller leaves | p50 | p99 | most |", "|---|---|---|---|---|"]
    with _served(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}") as base:
        await asyncio.to_thread(wait_until_ready, f"{base}/ready")
        for path in ("/chat/completions", "/rag/chat/completions"):
            for how in ("FIN", "RST"):
                late = sorted([one for _ in range(ROUNDS) for one in await _leave(base, path, reset=how == "RST")])
                p50, p99 = (late[int(len(late) * share) - 1] * 1000 for share in (0.5, 0.99))
                lines.append(f"| {path} | {how} | {p50:.1f} ms | {p99:.1f} ms | {late[-1] * 1000:.1f} ms |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    uvloop.run(main())
