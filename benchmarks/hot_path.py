"""Cost of a chunk, a request and the first word, compared with a bare relay and, with `--peers`, with other servers.

CPU is the user and system time of the server process, divided by the chunks that it forwarded. The load comes from this
process.
"""

import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import aiohttp
import psutil

from benchmarks.peers.started import started_peers

ROUNDS = 3
"""How often each measurement is repeated, with the servers in turn. The median counts."""


@dataclass(frozen=True)
class Load:
    """`streams` streams at the same time, each of `tokens` tokens with `pause` seconds between them, `times` times."""

    name: str
    streams: int
    tokens: int
    pause: float
    times: int = 1


VOICE = {"x-dialgraph-profile": "agora"}
"""With this header, words pass the outlets. Each stream is a call of its own, so its run can be joined."""
PACED = Load("paced", 50, 250, 0.02)
BACK_TO_BACK = Load("back to back", 10, 200, 0.0, times=20)
REQUEST = Load("per request", 1, 1, 0.0, times=400)
LOADS = (PACED, BACK_TO_BACK, REQUEST)
BEGUN_A_SECOND, BEGUN = 200, 400
BEGUN_LOAD = Load("begun at 200/s", 1, 40, 0.05)


@dataclass(frozen=True)
class Server:
    """A server to measure."""

    name: str
    base: str
    path: str
    process: psutil.Process
    model: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def started(command: list[str], pattern: str, environment: dict[str, str]) -> Iterator[tuple[str, psutil.Process]]:
    """Start a process. Yield its address, read from its first line with `pattern`, and the process."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **environment}
    )
    try:
        assert process.stdout is not None
        match = re.search(pattern, process.stdout.readline())
        assert match, f"{command} did not start"
        yield match.group(1), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def servers(*, peers: bool = False) -> Iterator[tuple[list[Server], str, Path]]:
    """Start all servers: the bare relay, ours and the others. Yield them, their upstream, and our data folder."""
    with ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory())
        port, _ = stack.enter_context(started([sys.executable, "-m", "benchmarks.upstream"], r"(\d+)", {}))
        upstream = f"http://127.0.0.1:{port}"
        bare, bare_process = stack.enter_context(
            started([sys.executable, "-m", "benchmarks.bare"], r"(http\S+)", {"UPSTREAM": upstream})
        )
        environment = {
            "LLM_BASE_URL": upstream,
            "DIALGRAPH_DATA_DIR": data,
            "DIALGRAPH_AUTH": "none",
            "DIALGRAPH_LOG_LEVEL": "warning",
        }
        ours, process = stack.enter_context(
            started([sys.executable, "-m", "server.cli", "serve", "--port", "0"], r"(http\S+)", environment)
        )
        wait_until_ready(f"{ours}/ready")
        others = stack.enter_context(started_peers(upstream)) if peers else []
        for _, base, _ in others:
            wait_until_ready(base)
        yield (
            [
                Server("bare relay, blocks of bytes", bare, "/blocks/chat/completions", bare_process),
                Server("bare relay, event by event", bare, "/chat/completions", bare_process),
                Server("dialgraph chat", ours, "/chat/completions", process),
                Server("dialgraph rag", ours, "/rag/chat/completions", process),
                Server("dialgraph chat for a voice, in a call", ours, "/chat/completions", process, headers=VOICE),
                *(Server(peer.name, base, peer.path, one, peer.model) for peer, base, one in others),
            ],
            upstream,
            Path(data),
        )


def wait_until_ready(url: str) -> None:
    """Poll until the server is ready. Raise TimeoutError after a minute."""

    async def poll() -> None:
        async with aiohttp.ClientSession() as session:
            for _ in range(1200):
                try:
                    async with session.get(url) as response:
                        if response.status != 503:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        raise TimeoutError(url)

    asyncio.run(poll())


async def stream(session: aiohttp.ClientSession, server: Server, load: Load) -> tuple[float, int]:
    """Return the seconds to the first word, and the number of words."""
    body: dict[str, object] = {
        "messages": [{"role": "user", "content": f"When is breakfast? ?tokens={load.tokens}&pause={load.pause}"}],
        "stream": True,
    }
    if server.model:
        body["model"] = server.model
    else:  # our graphs put other text at the end of the prompt
        body["user"] = f"?tokens={load.tokens}&pause={load.pause}"
    headers = {**server.headers, "x-call-id": uuid4().hex} if server.headers else {}
    began = time.perf_counter()
    first, words = 0.0, 0
    async with session.post(server.base + server.path, json=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        async for block in response.content.iter_any():
            words += block.count(b'word"')  # for a voice, the first word has no space
            if words and not first:
                first = time.perf_counter() - began
    return first, words


async def run(server: Server, load: Load) -> tuple[float, float]:
    """Return CPU microseconds for a chunk, and the median time to the first word in milliseconds."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        before = server.process.cpu_times()
        results: list[tuple[float, int]] = []
        for _ in range(load.times):
            results += await asyncio.gather(*(stream(session, server, load) for _ in range(load.streams)))
        after = server.process.cpu_times()
    words = sum(count for _, count in results)
    assert words == load.streams * load.tokens * load.times, f"{server.name}: {words} words"
    spent = (after.user - before.user) + (after.system - before.system)
    return spent / words * 1e6, statistics.median(first for first, _ in results) * 1000


async def _first_words(server: Server) -> float:
    """Return the median milliseconds to the first word, one stream at a time on one connection."""
    async with aiohttp.ClientSession() as session:
        times = [(await stream(session, server, Load("", 1, 3, 0.0)))[0] * 1000 for _ in range(120)]
    return statistics.median(times[20:])


async def _begun(server: Server) -> float:
    """Return the p99 of milliseconds to the first word while `BEGUN_A_SECOND` turns begin every second."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        started, turns = time.perf_counter(), []
        for number in range(BEGUN):
            await asyncio.sleep(max(0.0, started + number / BEGUN_A_SECOND - time.perf_counter()))
            turns.append(asyncio.create_task(stream(session, server, BEGUN_LOAD)))
        firsts = sorted([first for first, _ in await asyncio.gather(*turns)])
    return (firsts[int(len(firsts) * 0.99) - 1] - BEGUN_LOAD.pause) * 1000


def _connections(upstream: str) -> int:
    async def count() -> int:
        async with aiohttp.ClientSession() as session, session.get(f"{upstream}/connections") as response:
            return int(await response.text())

    return asyncio.run(count())


def measure(*, peers: bool = False) -> list[str]:
    """Return the table, as Markdown lines."""
    rows: dict[str, dict[str, list[float]]] = {}
    with servers(peers=peers) as (all_servers, upstream, _):
        for server in all_servers:
            asyncio.run(run(server, Load("warm", 50, 20, 0.0)))
        for _ in range(ROUNDS):
            for load in LOADS:
                for server in all_servers:
                    cpu, _ = asyncio.run(run(server, load))
                    rows.setdefault(server.name, {}).setdefault(load.name, []).append(cpu)
            for server in all_servers:
                rows[server.name].setdefault("first", []).append(asyncio.run(_first_words(server)))
                rows[server.name].setdefault("begun", []).append(asyncio.run(_begun(server)))
        handshakes = {}
        for server in all_servers:
            before = _connections(upstream)
            asyncio.run(_first_words(server))
            handshakes[server.name] = (_connections(upstream) - before - 1) / 120
        memory = {server.name: server.process.memory_info().rss / 2**20 for server in all_servers}
    medians = {name: {key: statistics.median(values) for key, values in row.items()} for name, row in rows.items()}
    bare = medians[all_servers[0].name]
    lines = [
        "| server | a chunk, paced | ratio | a chunk, back to back | ratio | a request | first word | added"
        " | begun at 200/s, p99 | handshakes a turn | RSS |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in medians.items():
        paced, unpaced = row[PACED.name], row[BACK_TO_BACK.name]
        lines.append(
            f"| {name} | {paced:.1f} µs | {paced / bare[PACED.name]:.2f} | {unpaced:.1f} µs"
            f" | {unpaced / bare[BACK_TO_BACK.name]:.2f} | {row[REQUEST.name] / 1000:.2f} ms"
            f" | {row['first']:.2f} ms | {row['first'] - bare['first']:+.2f} ms"
            f" | {row['begun']:.0f} ms | {handshakes[name]:.2f} | {memory[name]:.0f} MB |"
        )
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(measure(peers="--peers" in sys.argv)) + "\n")
