"""Whether the parts of a wait add up: 1,000 turns, the sum of their parts beside what the client measured."""

import asyncio
import json
import random
import statistics
import sys
import time
from typing import Any

import aiohttp

from benchmarks.hot_path import Server, servers

TURNS = 1_000
AT_ONCE = 4
_WANTS = {"x-dialgraph-timings": "true"}


async def _turn(session: aiohttp.ClientSession, server: Server, dice: random.Random) -> tuple[float, float, float]:
    """Return the sum of the parts, the server's own measure, and the client's measure, in milliseconds."""
    pause = dice.choice([0.0, 0.001, 0.02])
    body: dict[str, object] = {
        "messages": [{"role": "user", "content": dice.choice(["When is breakfast?", "Can I bring my dog?", "Hello!"])}],
        "stream": True,
        "user": f"?tokens={dice.randrange(1, 8)}&pause={pause}",
    }
    began = time.perf_counter()
    first = 0.0
    told: dict[str, Any] = {}
    async with session.post(server.base + server.path, json=body, headers={**server.headers, **_WANTS}) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                chunk = json.loads(line[6:])
                if not first and any(one["delta"].get("content") for one in chunk["choices"]):
                    first = (time.perf_counter() - began) * 1000
                told = chunk.get("timings", told)
    return sum(told["parts"].values()), told["first_word_ms"], first


async def _all(found: list[Server]) -> list[tuple[float, float, float]]:
    dice = random.Random(18)
    results: list[tuple[float, float, float]] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def some(count: int) -> None:
            for _ in range(count):
                results.append(await _turn(session, dice.choice(found), dice))

        await asyncio.gather(*(some(TURNS // AT_ONCE) for _ in range(AT_ONCE)))
    return results


def measure() -> list[str]:
    """Return the table, as Markdown lines."""
    with servers() as (all_servers, _, _):
        results = asyncio.run(_all([one for one in all_servers if one.name.startswith("dialgraph")]))
    own = sorted(abs(parts - told) for parts, told, _ in results)
    client = sorted(measured - parts for parts, _, measured in results)
    place = int(len(results) * 0.99) - 1
    return [
        f"| {len(results)} turns, {AT_ONCE} at once | median | 99 % |",
        "|---|---|---|",
        f"| the sum of the parts, and the server's measure | {statistics.median(own):.2f} ms | {own[place]:.2f} ms |",
        f"| the client's measure beyond the sum | {statistics.median(client):.2f} ms | {client[place]:.2f} ms |",
    ]


if __name__ == "__main__":
    sys.stdout.write("\n".join(measure()) + "\n")
