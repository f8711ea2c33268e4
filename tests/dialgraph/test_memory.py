"""Call memory: a flow asks for a name, a day and a yes over several turns, and the host resends only words."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.compile import compile_graph
from dialgraph.graph.errors import GraphError
from dialgraph.graph.policy import Memory, Policy
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.storage.call_memory import CallMemoryTable
from dialgraph.storage.database import Database
from dialgraph.storage.remembered import CallKey, Remembered
from dialgraph.turn.memory import CallMemory
from tests.support.serving import Served, serving
from tests.support.upstream import Action, calls, says, upstream
from tests.support.wire import read_stream

FLOW = Graph(
    name="booking",
    policy=Policy(memory=Memory(slots={"name": "text", "day": "date", "sure": "yes_no"})),
    steps=(
        Step("recall", then={"missing": "rewrite_messages", "complete": "hangup"}),
        Step("rewrite_messages", options={"template": "collect"}),
        Step("call_model", then={"answered": END, "told": "remember"}),
        Step("remember", then="recall"),
        Step("hangup", options={"say": "Booked. Goodbye!"}),
    ),
)


async def say(served: Served, words: str, call: str = "call-1", **headers: str) -> Any:
    """Send one turn of a call and return the answer."""
    body = {"messages": [{"role": "user", "content": words}], "stream": True}
    return read_stream((await served.post("/booking/chat/completions", body, {"x-call-id": call, **headers})).body)


async def test_a_flow_continues_after_a_restart_of_the_server(tmp_path: Path) -> None:
    scripts: list[list[Action]] = [
        [*calls("remember", '{"name":"Ann"}')], says("Which day?"),
        [*calls("remember", '{"day":"tomorrow"}')], says("Which date is that?"),
        [*calls("remember", '{"day":"2026-11-22"}')], says("Ann on the 22nd, right?"),
        [*calls("remember", '{"sure":true}')],
        says("Your name?"),
    ]  # fmt: skip
    async with upstream(*scripts) as up:
        async with serving(tmp_path, (FLOW, []), models={"main": up.url}) as served:
            assert (await say(served, "I am Ann")).text == "Which day?"
            assert (await say(served, "tomorrow")).text == "Which date is that?"
        async with serving(tmp_path, (FLOW, []), models={"main": up.url}) as served:
            assert (await say(served, "the 22nd")).text == "Ann on the 22nd, right?"
            last = await say(served, "yes")
            assert last.text == "Booked. Goodbye!" and [call["name"] for call in last.tool_calls] == ["hangup"]
            assert (await say(served, "hi", call="call-2")).text == "Your name?", (
                "another call must start with an empty memory"
            )
    tool = up.bodies[0]["tools"][0]["function"]
    assert list(tool["parameters"]["properties"]) == ["name", "day", "sure"]
    systems = [body["messages"][0]["content"] for body in up.bodies]
    assert "Still missing: name, day, sure. Ask only for name." in systems[0]
    assert "- name: Ann" in systems[1] and "Ask only for day" in systems[1]
    assert "What was given as day cannot be used: it must be a date" in systems[3]
    assert "cannot be used" not in systems[4] and "Still missing: name, day, sure" in systems[-1]


async def test_two_principals_with_one_call_id_share_no_memory(tmp_path: Path) -> None:
    keys = {"alice": "a" * 32, "bob": "b" * 32}
    scripts = (calls("remember", '{"name":"Ann"}'), says("Which day?"), says("Your name?"))
    async with upstream(*scripts) as up:
        async with serving(tmp_path, (FLOW, []), models={"main": up.url}, api_keys=keys) as served:
            await say(served, "Ann", authorization=f"Bearer {keys['alice']}")
            await say(served, "hi", authorization=f"Bearer {keys['bob']}")
    assert "Ann" not in up.bodies[-1]["messages"][0]["content"]


async def test_without_a_call_id_nothing_is_remembered(tmp_path: Path) -> None:
    scripts = (calls("remember", '{"name":"Ann"}'), says("Which day?"), says("Your name?"))
    async with upstream(*scripts) as up, serving(tmp_path, (FLOW, []), models={"main": up.url}) as served:
        for _ in range(2):
            await served.ask("hi", "/booking/chat/completions")
    assert "- name: Ann" in up.bodies[1]["messages"][0]["content"], "within one turn the name must be known"
    assert "Ann" not in up.bodies[-1]["messages"][0]["content"]


async def test_a_stage_set_by_a_step_wins_over_the_slots(tmp_path: Path) -> None:
    steps = (
        Step("recall", then={"missing": "remember", "confirm": "hangup", "complete": "hangup"}),
        Step("remember", options={"stage": "confirm", "values": {"name": "Ann"}}, then="call_model"),
        Step("call_model", then=END),
        Step("hangup"),
    )
    spec = Graph(name="booking", steps=steps, policy=FLOW.policy)
    async with upstream() as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        first, second = await say(served, "a"), await say(served, "b")
    assert first.text == "Hello there." and [call["name"] for call in second.tool_calls] == ["hangup"]


KEY = CallKey("p", "e", "c")


@pytest.fixture
async def table(tmp_path: Path) -> Any:
    """Open a table in an empty database."""
    database = Database("sqlite:", tmp_path)
    yield CallMemoryTable(database)
    await database.aclose()


async def test_expired_memories_are_deleted_from_the_file(table: CallMemoryTable, tmp_path: Path) -> None:
    await table.save(KEY, Remembered("s", {"name": "SECRET-NAME"}), 0)
    assert await table.load(KEY) == Remembered()
    await table.save(CallKey("p", "e", "other"), Remembered(), 60)
    with sqlite3.connect(tmp_path / "dialgraph.db") as file:
        assert [row[0] for row in file.execute("SELECT call_id FROM call_memory")] == ["other"]


async def test_a_slot_accepts_only_values_of_its_type() -> None:
    kinds: Any = {"t": "text", "n": "number", "d": "date", "y": "yes_no"}
    memory = CallMemory(None, KEY, kinds, 60)
    await memory.keep({"t": 5, "n": "3.5", "d": "2026-02-29", "y": "是", "unknown": 1})
    assert memory.slots == {"t": "5", "n": 3.5, "y": True} and memory.missing == ["d"]
    assert memory.problems == {"d": "it must be a date like 2026-11-21"}
    await memory.keep({"d": "2028-02-29", "n": "-7", "t": None, "y": "maybe"})
    assert memory.slots == {"n": -7, "y": True, "d": "2028-02-29"} and list(memory.problems) == ["y"]


async def test_many_writers_do_not_lock_each_other_out(tmp_path: Path) -> None:
    databases = [Database("sqlite:", tmp_path) for _ in range(4)]

    async def write(at: int) -> None:
        table = CallMemoryTable(databases[at % 4])
        for turn in range(5):
            await table.save(CallKey("p", "e", f"c{at}"), Remembered("", {"n": turn}), 60)

    await asyncio.gather(*(write(at) for at in range(16)))
    found = [await CallMemoryTable(databases[0]).load(CallKey("p", "e", f"c{at}")) for at in range(16)]
    assert all(one.slots == {"n": 4} for one in found)
    for database in databases:
        await database.aclose()


def test_a_graph_that_uses_memory_must_declare_it() -> None:
    with pytest.raises(GraphError, match="step 'recall': node 'recall' needs a memory"):
        compile_graph(Graph(name="g", steps=(Step("recall", then={"missing": END, "complete": END}),)))


def test_an_invalid_database_url_is_reported_without_its_password(tmp_path: Path) -> None:
    for url, sentence in (
        ("mysql://u:secret@h/d", "no engine for 'mysql'"),
        ("nothing", "no engine for 'nothing'"),
        ("postgresql://u:secret@h:port/d", "database: the address cannot be read."),
    ):
        with pytest.raises(ValueError, match=sentence) as told:
            Database(url, tmp_path)
        assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"mising": END, "complete": END}, "recall never chooses 'mising'. Did you mean 'missing'?"),
        ({"missing": END}, "`then` has no entry for 'complete'"),
        ({"complete": END, "name": END}, "`then` has no entry for 'missing'"),
    ],
)
def test_a_table_of_recall_with_wrong_routes_is_refused(table: dict[str, str], sentence: str) -> None:
    with pytest.raises(GraphError, match=sentence.replace("?", r"\?")):
        compile_graph(Graph(name="g", steps=(Step("recall", then=table),), policy=FLOW.policy))


def test_remember_can_fill_only_declared_slots() -> None:
    steps = (
        Step("remember", options={"stage": "sure", "values": {"nam": "x"}}),
        Step("recall", then={"complete": END}),
    )
    with pytest.raises(GraphError) as told:
        compile_graph(Graph(name="g", steps=steps, policy=FLOW.policy))
    assert "'nam' is not a slot. Did you mean 'name'?" in str(told.value)


async def test_a_model_that_calls_remember_forever_ends_in_an_error(tmp_path: Path) -> None:
    script = calls("remember", '{"name":"Ann"}')
    async with upstream(default=script) as up, serving(tmp_path, (FLOW, []), models={"main": up.url}) as served:
        reply = await served.ask("hi", "/booking/chat/completions")
    assert reply.status == 502 and reply.error["code"] == "upstream_malformed" and len(up.exchanges) == 9
