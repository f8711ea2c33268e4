"""A cheap model that talks at a given pace. `python -m benchmarks.upstream` prints its port."""

import asyncio
import json
import re
import sys
from typing import cast
from urllib.parse import parse_qs, urlsplit

import uvloop

HEAD = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "bench"}


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    data = {**HEAD, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


FIRST = _chunked(_event({"role": "assistant", "content": ""}))
WORD = _chunked(_event({"content": " word"}))
LAST = _chunked(_event({}, "stop")) + _chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
HEADERS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
connections = 0


class Model(asyncio.Protocol):
    """The model. `POST /…?tokens=N&pause=S` streams N words with S seconds between two; `text=…` instead of `tokens`
    gives the words. `GET /connections` returns how many connections there were.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        global connections
        connections += 1
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass
        self._buffer = b""
        self._room = asyncio.Event()
        self._room.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.set()
        for task in self._tasks:
            task.cancel()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            if len(rest) < length:
                return
            body, self._buffer = rest[:length], rest[length:]
            path = head.split(b" ", 2)[1].decode()
            if head.startswith(b"GET"):
                told = str(connections).encode()
                self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))
                continue
            task = asyncio.ensure_future(self._talk(path, json.loads(body)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _talk(self, path: str, body: dict[str, object]) -> None:
        query = parse_qs(urlsplit(_asked(path, body)).query)
        pause = float(query["pause"][0])
        said = re.findall(r"\s*\S+", query["text"][0]) if "text" in query else []
        words = [_chunked(_event({"content": word})) for word in said] or [WORD] * int(query["tokens"][0])
        self._transport.write(HEADERS + FIRST)
        loop = asyncio.get_running_loop()
        due = loop.time()
        for word in words:
            if pause:
                due += pause
                await asyncio.sleep(due - loop.time())
            self._transport.write(word)
            if not pause:
                await asyncio.sleep(0)
                await self._room.wait()
        self._transport.write(LAST)


def _asked(path: str, body: dict[str, object]) -> str:
    """Return the text that contains the query: `user`, the last message (for servers that forward only that), or the
    path.
    """
    if "user" in body:
        return str(body["user"])
    messages = body.get("messages")
    found = re.search(r"\?tokens=\S+", str(messages[-1])) if isinstance(messages, list) and messages else None
    return found.group().rstrip("'\"]},") if found else path


async def main() -> None:
    """Serve until the process is killed."""
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
