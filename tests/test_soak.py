"""Long proofs: thousands of random upstreams and clients that leave; each turn ends in a legal way, nothing stays."""

import asyncio
import gc
import random
from pathlib import Path

import psutil
import pytest

from tests.serving import Served, serving
from tests.upstream import Action, delta, says, upstream
from tests.wire import read_stream

pytestmark = pytest.mark.soak

SCRIPTS = 3000
AT_ONCE = 40


def random_script(dice: random.Random) -> list[Action]:
    """Words, and then something that goes wrong, or not."""
    words: list[Action] = [("chunk", f"{at} ") for at in range(dice.randrange(6))]
    pauses: list[Action] = [("sleep", dice.random() * 0.02)]
    status = dice.choice([400, 401, 429, 500, 503])
    ends: list[list[Action]] = [
        [("finish", "stop"), ("done",)],
        [("finish", "stop")],
        [("finish", "length"), ("done",)],
        [("done",)],
        [("fin",)],
        [("rst",)],
        [("hang",)],
        [("raw", b"data: {broken\n\n")],
        [("raw", b'data: {"error": {"message": "x"}}\n\n')],
        [("raw", delta({"content": "你"})[:-9])],
        [("status", status, {}, b"{}")],
        says("end"),
    ]
    end = dice.choice(ends)
    return end if end[0][0] == "status" else [*words, *pauses, *end]


async def _one(served: Served, seed: int) -> str:
    dice = random.Random(seed)
    if dice.random() < 0.5:
        reply = await served.ask()
        if reply.status == 200:
            answer = read_stream(reply.body)
            return "frame" if answer.error else "finish"
        assert reply.error["message"]
        return "status"
    connection = await served.connect()
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": dice.random() < 0.8}
    await connection.send(served.request("/rag/chat/completions", body))
    await asyncio.sleep(dice.random() * 0.03)
    connection.reset() if dice.random() < 0.5 else connection.writer.close()
    return "left"


@pytest.mark.timeout(1800)
async def test_every_turn_ends_in_a_legal_way_and_leaves_nothing(tmp_path: Path) -> None:
    dice = random.Random(7)
    deadlines = {"first_byte_seconds": 0.5, "idle_seconds": 0.3, "total_seconds": 2.0}
    async with upstream() as up, serving(tmp_path, models={"main": {"url": up.url, **deadlines}}) as served:
        up.choose = lambda body: random_script(dice)
        process = psutil.Process()
        ends: dict[str, int] = {}
        memory: list[int] = []
        for start in range(0, SCRIPTS, AT_ONCE):
            for end in await asyncio.gather(*(_one(served, seed) for seed in range(start, start + AT_ONCE))):
                ends[end] = ends.get(end, 0) + 1
            if start % 400 == 0:
                served.connections.clear()
                gc.collect()
                memory.append(process.memory_info().rss)
        await up.until(lambda: not served.state.turns.open, 10)
        turns = [task for task in asyncio.all_tasks() if task.get_name().startswith("turn of")]
        assert not turns
    print(ends, [round(value / 2**20) for value in memory])  # noqa: T201 (the figures are what it is for)
    assert sum(ends.values()) == SCRIPTS
    assert {"finish", "frame", "status", "left"} <= ends.keys()
    assert memory[-1] - memory[2] < 32 * 2**20
