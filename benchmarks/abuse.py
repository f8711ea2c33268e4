"""What one client can do to all others: delay of the event loop, memory and sockets under hostile requests.

`python -m benchmarks.abuse` prints the tables. The load and the model run in this process, the server in a process of
its own.
"""

import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, cast

import psutil

from benchmarks.ticks import loop_delays
from dialgraph.project import ROOT
from server.process.serve import give_memory_back
from tests.support.serving import CHAT, Connection, Served, serving
from tests.support.upstream import Upstream, says, upstream

MB = 1_000_000
TURNS = 1_000
AT_ONCE = 4
"""Number of large requests in flight at the same time."""
IDLE_SOCKETS = 3_000


def messages(content: Any, **more: Any) -> bytes:
    """Return a request with one user message."""
    body = {"messages": [{"role": "user", "content": content}], "stream": True, **more}
    return json.dumps(body, ensure_ascii=False).encode()


def stuffed(filling: bytes, size: int = 19_900_000) -> bytes:
    """Return a request with an unused field that is filled with `filling` up to `size` bytes."""
    head = b'{"messages": [{"role": "user", "content": "hi"}], "stream": true, "x": ['
    return head + filling * ((size - len(head)) // len(filling)) + b"0]}"


def many_calls() -> list[dict[str, Any]]:
    """Return as many tool calls as a request may contain, all with the same id, each with its result."""
    call = {"id": "", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    made = {"role": "assistant", "content": "", "tool_calls": [call]}
    return [made, {"role": "tool", "tool_call_id": "", "content": "x"}] * 1_024


def bodies() -> dict[str, tuple[str, bytes]]:
    """Return name → path and body. Each body is as large as the server, or its kind of content, allows."""
    part = {"type": "text", "text": "a"}
    return {
        "numbers": (CHAT, stuffed(b"0,")),
        "empty objects": (CHAT, stuffed(b"{},")),
        "objects with keys": (CHAT, stuffed(b'{"a":1},')),
        "nested lists": (CHAT, stuffed(b"[[[[[[]]]]]],")),
        "text parts": (CHAT, messages([part] * 600_000)),
        "empty messages": (CHAT, b'{"messages": [' + b"{}," * 6_000_000 + b"{}]}"),
        "refused at once": (CHAT, b'{"messages": [], "x": [' + b"{}," * 6_000_000 + b"{}]}"),
        "one long text": (CHAT, messages("a" * 19_000_000)),
        "a text of commas": (CHAT, messages("a, " * 6_000_000)),
        "a text of quotes": (CHAT, messages('"' * 9_000_000)),
        "a text of escapes": (CHAT, b'{"messages":[{"role":"user","content":"' + b"\\u4e2d" * 3_200_000 + b'"}]}'),
        "a long text, in a call": (CHAT, messages("a b " * 4_500_000, metadata={"call_id": "c"})),
        "a long question to rag": ("/rag/chat/completions", messages("and what about it? " * 1_000_000)),
        "a long Chinese question": ("/rag/chat/completions", messages("那么它呢？" * 1_200_000)),
        "a long goodbye": ("/hangup/chat/completions", messages("bye bye. " * 2_000_000)),
        "a long text to a voice": ("/audio/chat/completions", messages("Hello. " * 2_500_000)),
        "a long answer of ours": (
            "/rag/chat/completions",
            json.dumps(
                {
                    "messages": [
                        {"role": "assistant", "content": "It is. " * 2_500_000},
                        {"role": "user", "content": "and then?"},
                    ]
                }
            ).encode(),
        ),
        "many calls": (CHAT, json.dumps({"messages": many_calls(), "stream": True}).encode()),
        "many tools": (CHAT, messages("hi", tools=[{"type": "function", "function": {"name": "f"}}] * 300_000)),
        "responses: many items": ("/v1/responses", b'{"input": [' + b"{}," * 6_000_000 + b"{}]}"),
        "invalid JSON": (CHAT, b"{" * 19_900_000),
    }


async def serve(folder: Path, model: str, *settings: str) -> None:
    """Run the server, with a tick of one millisecond in its loop. For each line on stdin, print the delays since the
    last one.
    """
    give_memory_back()  # as `dialgraph serve` does
    more = dict(setting.split("=", 1) for setting in settings)
    async with serving(folder, models={"main": model}, rates=dict.fromkeys(("turn",), ""), **more) as served:
        sys.stdout.write(f"{served.port}\n")
        sys.stdout.flush()
        gc.collect()
        gc.freeze()  # as `dialgraph serve` does
        async with loop_delays() as late:
            while await asyncio.to_thread(sys.stdin.readline):
                found = sorted(late) or [0.0]
                sys.stdout.write(json.dumps([found[int(len(found) * 0.999)], found[-1]]) + "\n")
                sys.stdout.flush()
                late.clear()


class Measured:
    """The process of the measured server: reports its loop delays and its memory."""

    def __init__(self, process: asyncio.subprocess.Process, served: Served) -> None:
        self._process = process
        self.served = served
        self._memory = psutil.Process(process.pid)

    async def delays(self) -> tuple[float, float]:
        """Return p99.9 and maximum of the loop delays since the last call, in milliseconds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()
        share, worst = json.loads(await self._process.stdout.readline())
        return share * 1000, worst * 1000

    def megabytes(self) -> float:
        """Return the resident memory of the server, in MB."""
        return float(self._memory.memory_info().rss) / MB


@asynccontextmanager
async def measured(model: str, *settings: str) -> AsyncIterator[Measured]:
    """Start a new server in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.abuse", "serve", folder, model, *settings, cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "DIALGRAPH_AUTH": "none"},
        )  # fmt: skip
        assert process.stdout is not None
        try:
            served = Served(cast(Any, None), int(await process.stdout.readline()), cast(Any, None))
            found = Measured(process, served)
            await served.ask("warm")
            await found.delays()
            yield found
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@asynccontextmanager
async def forgetful(script: Sequence[Any]) -> AsyncIterator[Upstream]:
    """Start a model that forgets each request, because they are large."""
    async with upstream(default=script, strict=False) as up:

        def forget(body: dict[str, Any]) -> Sequence[Any] | None:
            up.exchanges.clear()
            return None

        up.choose = forget
        yield up


async def loop() -> list[str]:
    """Send each body. Return rows with its status and the delay of the loop."""
    rows = ["| body | MB | status | loop p99.9 | worst |", "|---|---|---|---|---|"]
    async with forgetful(says("Hello there.")) as up, measured(up.url) as server:
        for name, (path, body) in bodies().items():
            reply = await server.served.post(path, body)
            await asyncio.sleep(0.3)
            share, worst = await server.delays()
            rows.append(f"| {name} | {len(body) / MB:.1f} | {reply.status} | {share:.1f} ms | {worst:.1f} ms |")
    return rows


async def _many(times: int, work: Any) -> None:
    waiting = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with waiting:
            await work()

    await asyncio.gather(*(one() for _ in range(times)))


async def memory() -> list[str]:
    """Return the RSS before, and ten seconds after, failed turns and barge-ins with large requests."""
    rows = ["| load | RSS before | 10 s after |", "|---|---|---|"]
    body = messages("a" * 10 * MB)
    script: list[tuple[Any, ...]] = [("status", 400, {}, b'{"error": {"message": "no"}}')]
    async with forgetful(script) as up, measured(up.url) as server:
        for _ in range(20):  # until allocators and pools have reached their size
            await server.served.post(CHAT, body)
        await asyncio.sleep(2)
        before = server.megabytes()
        await _many(TURNS, lambda: server.served.post(CHAT, body))
        await asyncio.sleep(10)
        rows.append(f"| {TURNS} refused turns of 10 MB | {before:.0f} MB | {server.megabytes():.0f} MB |")
    numbers = count()
    async with upstream(default=[("hang",)], strict=False) as up, measured(up.url) as server:
        up.choose = lambda body: None if "user" in body else says("Hi.")

        async def break_in() -> None:
            mark = f"m{next(numbers)}"
            connection = await server.served.connect()
            await connection.send(server.served.request(CHAT, messages("a" * 10 * MB, user=mark)))
            await up.until(lambda: any(one.body.get("user") == mark for one in up.exchanges), 60)
            connection.reset()
            up.exchanges[:] = [one for one in up.exchanges if one.body.get("user") != mark]
            server.served.connections.clear()

        await _many(20, break_in)
        await asyncio.sleep(2)
        before = server.megabytes()
        await _many(TURNS, break_in)
        await asyncio.sleep(10)
        rows.append(f"| {TURNS} barge-ins in silence, 10 MB | {before:.0f} MB | {server.megabytes():.0f} MB |")
    return rows


async def crowd() -> list[str]:
    """Send forty of the largest bodies at the same time. Return the peak of the memory and the statuses."""
    rows = ["| load | RSS before | peak | statuses |", "|---|---|---|---|"]
    body = messages("a" * 19_800_000)
    async with forgetful([("sleep", 2.0), *says("Hi.")]) as up, measured(up.url) as server:
        before, peak, done = server.megabytes(), 0.0, asyncio.Event()

        async def watch() -> None:
            nonlocal peak
            while not done.is_set():
                peak = max(peak, server.megabytes())
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        replies = await asyncio.gather(*(server.served.post(CHAT, body) for _ in range(40)))
        done.set()
        await watching
        statuses = {status: [one.status for one in replies].count(status) for status in {one.status for one in replies}}
        rows.append(f"| 40 bodies of 19.8 MB at once | {before:.0f} MB | {peak:.0f} MB | {statuses} |")
    return rows


async def sockets() -> list[str]:
    """Open sockets that send one GET and stay open. Return how a call is answered while they are open."""
    rows = ["| idle sockets | still open | a call is answered with | in |", "|---|---|---|---|"]
    async with upstream(default=says("Hi.")) as up, measured(up.url) as server:
        idle: list[Connection] = []
        for _ in range(IDLE_SOCKETS):
            connection = await server.served.connect()
            await connection.send(server.served.request("/health", b"", None, "GET"))
            idle.append(connection)
        began = time.monotonic()
        reply = await server.served.ask("hi")
        took = time.monotonic() - began
        still = sum(not connection.reader.at_eof() for connection in idle)
        rows.append(f"| {IDLE_SOCKETS} | {still} | {reply.status} | {took * 1000:.0f} ms |")
    return rows


PARTS = {"loop": loop, "memory": memory, "crowd": crowd, "sockets": sockets}


def measure(names: Sequence[str] = tuple(PARTS)) -> list[str]:
    """Return the tables of these parts, as Markdown lines."""
    lines: list[str] = []
    for name in names:
        lines += [*asyncio.run(PARTS[name]()), ""]
    return lines


def main() -> None:
    """Run the named parts, or all; with `serve`, run the server."""
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(Path(sys.argv[2]), *sys.argv[3:]))
    else:
        sys.stdout.write("\n".join(measure(sys.argv[1:] or tuple(PARTS))) + "\n")


if __name__ == "__main__":
    main()
