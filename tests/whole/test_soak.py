"""Thousands of random upstream scripts and clients that leave: each turn ends legally and leaves nothing in memory."""

import asyncio
import gc
import logging
import random
from collections import Counter
from pathlib import Path

import psutil
import pytest

from dialgraph.graph.compile import compile_graph
from dialgraph.graph.policy import Policy
from dialgraph.graph.spec import END, Graph, Step
from tests.support.serving import Served, add_graphs, serving
from tests.support.upstream import Action, calls, delta, says, upstream
from tests.support.wire import read_stream

pytestmark = pytest.mark.soak

SCRIPTS = 10_000
CALLS = 1000
AT_ONCE = 40


def random_script(dice: random.Random) -> list[Action]:
    """Return a script of some words and a random end, good or bad."""
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
async def test_every_turn_ends_legally_and_leaves_nothing(tmp_path: Path) -> None:
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
        await up.until(lambda: not served.state.runs.open, 10)
        turns = [task for task in asyncio.all_tasks() if task.get_name().startswith("turn of")]
        assert not turns
    print(ends, [round(value / 2**20) for value in memory])  # noqa: T201 (the test exists to print these figures)
    assert sum(ends.values()) == SCRIPTS
    assert {"finish", "frame", "status", "left"} <= ends.keys()
    assert memory[-1] - memory[2] < 32 * 2**20


async def look_up(city: str) -> str:
    """Look something up; it fails, takes too long, or comes back."""
    if city == "broken":
        raise RuntimeError(city)
    await asyncio.sleep(5 if city == "slow" else 0)
    return "found"


BOT = Graph(
    name="bot",
    policy=Policy(linger_ms=30),
    steps=(
        Step("acknowledge", options={"say": ["Hm."], "after_ms": 30}),
        Step("call_model", then={"answered": END, "tools": "run_tools", "hangup": "hangup"}),
        Step("run_tools", options={"timeout_ms": 50, "passes": 2}, then="call_model"),
        Step("hangup", options={"say": "Bye."}),
    ),
)
WORDS = ["One ", "two ", "three ", "four."]


def answer_of(dice: random.Random, asked_before: bool) -> list[Action]:
    """Return a random script for one request to the model."""
    slow: list[Action] = [step for word in WORDS for step in (("chunk", word), ("sleep", dice.random() * 0.02))]
    kinds: list[list[Action]] = [
        says(*WORDS), [*slow, ("finish", "stop"), ("done",)], [("sleep", 0.06), *says(*WORDS)],
        [("chunk", "One "), ("hang",)], [("hang",)], [("chunk", "One "), ("fin",)], [("status", 500, {}, b"{}")],
        calls("hangup"),
    ]  # fmt: skip
    if not asked_before:
        kinds += [calls("look_up", f'{{"city":"{city}"}}') for city in ("Bonn", "broken", "slow")] * 2
    return dice.choice(kinds)


async def one_call(served: Served, number: int, told: Counter[str]) -> None:
    """Make one call of several turns: some are interrupted, some sent twice, some superseded."""
    dice = random.Random(number)
    headers = {"x-call-id": f"call {number}"}

    async def stay(body: dict[str, object]) -> None:
        reply = await served.post("/bot/chat/completions", body, headers)
        if reply.status != 200:
            told[f"error:{reply.error['code']}"] += 1
            return
        answer = read_stream(reply.body)
        spoken = answer.text.removeprefix("Hm. ")
        assert "".join(WORDS).startswith(spoken.removesuffix("Bye.")) or spoken in ("Bye.", ""), answer.text
        if answer.error is not None:
            told[f"error:{answer.error['code']}"] += 1
            return
        assert spoken in ("".join(WORDS), "Bye.", "One Bye.") and len(answer.tool_calls) == ("Bye." in spoken)
        told["complete"] += 1

    async def leave(body: dict[str, object]) -> None:
        connection = await served.connect()
        await connection.send(served.request("/bot/chat/completions", body, headers))
        await asyncio.sleep(dice.random() * 0.08)
        connection.reset() if dice.random() < 0.5 else connection.writer.close()
        told["left"] += 1

    for turn in range(dice.randint(2, 5)):
        body = {"messages": [{"role": "user", "content": f"turn {turn}"}], "stream": True}
        way = dice.choice(["stay", "twice", "barge in", "leave and come back", "too early"])
        if way == "stay":
            await stay(body)
        elif way == "twice":
            await asyncio.gather(stay(body), stay(body))
        elif way == "barge in":
            await leave(body)
        elif way == "leave and come back":
            await leave(body)
            await stay(body)
        else:  # the host does not wait: the next turn begins while this one runs
            running = asyncio.create_task(stay(body))
            await asyncio.sleep(dice.random() * 0.05)
            await stay({**body, "messages": [{"role": "user", "content": f"turn {turn} again"}]})
            await running


@pytest.mark.timeout(1800)
async def test_a_thousand_calls_end_as_the_log_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(11)
    deadlines = {"first_byte_seconds": 0.3, "idle_seconds": 0.2, "total_seconds": 2.0, "away_seconds": 0.05}
    caplog.set_level(logging.INFO, "dialgraph.turns")
    told: Counter[str] = Counter()
    async with upstream() as up:
        up.choose = lambda body: answer_of(dice, any(one["role"] == "tool" for one in body["messages"]))
        async with serving(tmp_path, models={"main": {"url": up.url, **deadlines}}) as served:
            add_graphs(served.app, compiled=[(BOT, compile_graph(BOT, tools=[look_up]))])
            for start in range(0, CALLS, AT_ONCE):
                numbers = range(start, min(start + AT_ONCE, CALLS))
                await asyncio.gather(*(one_call(served, number, told) for number in numbers))
                served.connections.clear()
            await up.until(lambda: not served.state.runs.open, 10)
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("turn of")]
    lines = [record for record in caplog.records if record.name == "dialgraph.turns" and record.message == "turn"]
    said = Counter(str(vars(record)["outcome"]) for record in lines)
    print(dict(told), dict(said), f"{len(up.exchanges)} requests upstream")  # noqa: T201 (the test exists to print these figures)
    # Each outcome that a waiting client received is in the log. The other log lines belong to clients that left.
    surplus = 0
    for outcome in said.keys() | told.keys() - {"left"}:
        if outcome != "cancelled":
            assert said[outcome] >= told[outcome], outcome
            surplus += said[outcome] - told[outcome]
    unread = told["left"] - said["cancelled"] - surplus
    assert 0 <= unread <= told["left"], "some clients left before the server read their request"
    assert said["error:internal_error"] == 0
    assert {"complete", "error:superseded", "error:upstream_stalled", "cancelled"} <= said.keys()
