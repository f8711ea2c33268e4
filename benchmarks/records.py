"""Cost of records: CPU for a paced chunk with and without a record, in turn, in one run of one server."""

import asyncio
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import aiohttp

from benchmarks.hot_path import PACED, Server, servers, stream

ROUNDS = 7
LIMIT_US = 2.5
"""What a record may cost per paced chunk, in microseconds of CPU, with writing it to the disk."""


def _written(folder: Path, turns: int) -> None:
    """Wait until this many turns are recorded. Their CPU belongs to the measurement."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        lines = sum(len(index.read_bytes().splitlines()) for index in folder.glob("*/index.jsonl"))
        if lines >= turns:
            return
        time.sleep(0.05)
    raise TimeoutError("the records were not written")


def _spent(server: Server) -> float:
    """Return the CPU time of the server in seconds, in nanoseconds' steps: `cpu_times` counts in steps of 10 ms."""
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


async def _calls(server: Server) -> None:
    """Run one turn in each of the calls. Their ids stay the same in all rounds, as in real calls."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        calls = [replace(server, headers={**server.headers, "x-call-id": f"call-{at}"}) for at in range(PACED.streams)]
        await asyncio.gather(*(stream(session, call, PACED) for call in calls))


def measure() -> list[str]:
    """Return the table, as Markdown lines."""
    times: dict[str, list[float]] = {"without": [], "with": []}
    with servers() as (all_servers, _, data):
        chat = next(one for one in all_servers if one.name == "dialgraph chat")
        ways = {
            name: Server(chat.name, chat.base, chat.path, chat.process, headers={"x-dialgraph-record": asked})
            for name, asked in (("without", "false"), ("with", "true"))
        }
        chunks = PACED.streams * PACED.tokens
        for server in ways.values():
            asyncio.run(_calls(server))
        for turn in range(2, ROUNDS + 2):
            for name, server in ways.items():
                before = _spent(server)
                asyncio.run(_calls(server))
                if name == "with":
                    _written(data / "records", turn * PACED.streams)
                times[name].append((_spent(server) - before) / chunks * 1e6)
    costs = [on - off for on, off in zip(times["with"], times["without"], strict=True)]
    sys.stderr.write(f"{ {name: [round(one, 1) for one in found] for name, found in times.items()} }\n")
    return [
        "| a paced chunk, 50 calls with 50 chunks a second each | CPU |",
        "|---|---|",
        *(f"| {name} a record | {statistics.median(found):.1f} µs |" for name, found in times.items()),
        f"| a record costs, median of {ROUNDS} pairs | {statistics.median(costs):+.1f} µs (at most {LIMIT_US}) |",
    ]


if __name__ == "__main__":
    sys.stdout.write("\n".join(measure()) + "\n")
