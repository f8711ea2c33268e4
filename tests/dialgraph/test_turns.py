"""Turns that are repeated, superseded or left, and turns that fail, over sockets."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.policy import Policy
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.turn.node import State, Turn, Update, node
from tests.support.serving import Connection, Served, serving
from tests.support.upstream import Action, says, upstream
from tests.support.wire import read_stream

CALL = {"x-call-id": "call-1"}
SLOW: list[Action] = [("chunk", "One "), ("sleep", 0.3), *says("two.")]


def asks(question: str, **fields: Any) -> dict[str, Any]:
    """Return the body of a streamed request."""
    return {"messages": [{"role": "user", "content": question}], "stream": True, **fields}


async def begin(served: Served, body: dict[str, Any], path: str = "/chat/completions", **headers: str) -> Connection:
    """Send a request and do not wait for its answer."""
    connection = await served.connect()
    await connection.send(served.request(path, body, {**CALL, **headers}))
    return connection


async def heard(connection: Connection) -> bytes:
    """Wait for the first words of the stream and return all bytes so far."""
    await connection.head()
    data = await connection.chunk()
    while b'"content":"' not in data.replace(b'"content":""', b""):
        data += await connection.chunk()
    return data


async def rest(connection: Connection) -> bytes:
    """Return the remaining bytes of a stream."""
    data = b""
    while piece := await connection.chunk():
        data += piece
    return data


async def test_a_repeated_turn_runs_once_and_every_client_gets_all_words(tmp_path: Path) -> None:
    runs = 0

    @node()
    async def charge(state: State, turn: Turn) -> Update:
        """Count an effect that may happen only once."""
        nonlocal runs
        runs += 1
        return None

    spec = Graph(name="paid", steps=(Step("charge"), Step("call_model", then=END)))
    async with upstream(default=SLOW) as up, serving(tmp_path, (spec, [charge]), models={"main": up.url}) as served:
        path = "/paid/chat/completions"
        first = await begin(served, asks("pay", stream_options={"include_usage": True}), path)
        start = await heard(first)
        second = await served.post(path, asks("pay", stream_options={"include_usage": True}), CALL)
        late = await served.post(path, asks("pay", stream_options={"include_usage": True}), CALL)  # the turn has ended
        answers = [read_stream(body) for body in (start + await rest(first), second.body, late.body)]
    assert [answer.text for answer in answers] == ["One two."] * 3
    assert len({answer.chunks[0]["id"] for answer in answers}) == 3, "each reply must have its own id"
    assert runs == 1 and len(up.exchanges) == 1


@pytest.mark.parametrize(
    ("other", "headers", "path"),
    [
        (asks("again"), {}, ""),
        (asks("pay", temperature=0.5), {}, ""),
        (asks("pay", tools=[{"type": "function", "function": {"name": "f"}}]), {}, ""),
        (asks("pay"), {"x-turn-id": "2"}, ""),
        (asks("pay"), {"x-call-id": "call-2"}, ""),
        (asks("pay"), {"x-dialgraph-profile": "livekit"}, ""),
        (asks("pay"), {}, "/rag/chat/completions"),
    ],
)
async def test_a_different_turn_is_never_joined(
    tmp_path: Path, other: dict[str, Any], headers: dict[str, str], path: str
) -> None:
    async with upstream(SLOW, default=says("Mine.")) as up, serving(tmp_path, models={"main": up.url}) as served:
        first = await begin(served, asks("pay"))
        await heard(first)
        answer = read_stream((await served.post(path or "/chat/completions", other, {**CALL, **headers})).body)
    assert answer.text == "Mine." and len(up.exchanges) == 2


async def test_without_a_call_id_turns_are_neither_joined_nor_superseded(tmp_path: Path) -> None:
    async with upstream(default=SLOW) as up, serving(tmp_path, models={"main": up.url}) as served:
        replies = await asyncio.gather(*(served.post("/chat/completions", asks("pay")) for _ in range(3)))
    assert [read_stream(reply.body).text for reply in replies] == ["One two."] * 3 and len(up.exchanges) == 3


async def test_turns_of_two_principals_never_affect_each_other(tmp_path: Path) -> None:
    keys = {"alice": "a" * 32, "bob": "b" * 32}
    async with upstream(default=SLOW) as up, serving(tmp_path, models={"main": up.url}, api_keys=keys) as served:

        async def call(key: str, question: str) -> bytes:
            headers = {**CALL, "authorization": f"Bearer {key}"}
            return (await served.post("/chat/completions", asks(question), headers)).body

        same = await asyncio.gather(*(call(key, "same") for key in keys.values()))
        assert len(up.exchanges) == 2, "the same words from two principals must be two turns"
        newer = await asyncio.gather(call(keys["alice"], "old"), call(keys["bob"], "new"))
    assert [read_stream(body).text for body in (*same, *newer)] == ["One two."] * 4


async def test_the_newest_turn_of_a_call_ends_the_older_one(tmp_path: Path) -> None:
    async with upstream([("chunk", "Old "), ("hang",)], default=says("New.")) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            older = await begin(served, asks("first"))
            start = await heard(older)
            newer = await served.post("/chat/completions", asks("second"), CALL)
            answer = read_stream(start + await rest(older))
            await up.until(lambda: up.exchanges[0].left is not None)
    assert read_stream(newer.body).text == "New."
    assert answer.text == "Old " and answer.error is not None and answer.error["code"] == "superseded"


async def test_a_turn_superseded_before_its_first_word_gets_status_499(
    tmp_path: Path,
) -> None:
    async with upstream([("hang",)], default=says("New.")) as up, serving(tmp_path, models={"main": up.url}) as served:
        older = await begin(served, asks("first"))
        await up.until(lambda: len(up.exchanges) == 1)
        newer = await served.post("/chat/completions", asks("second"), CALL)
        told = await older.reply()
    assert told.status == 499 and told.error["code"] == "superseded" and read_stream(newer.body).text == "New."


async def test_a_superseded_turn_just_ends_if_errors_are_spoken(tmp_path: Path) -> None:
    async with upstream([("chunk", "Old "), ("hang",)], default=says("New.")) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            older = await begin(served, asks("first"), **{"x-dialgraph-profile": "vapi"})
            start = await heard(older)
            await served.post("/chat/completions", asks("second"), {**CALL, "x-dialgraph-profile": "vapi"})
            answer = read_stream(start + await rest(older))
    assert answer.text == "Old " and answer.finish == "stop" and answer.error is None


async def test_an_endpoint_can_let_turns_run_in_parallel(tmp_path: Path) -> None:
    spec = Graph(name="calm", steps=(Step("call_model"),), policy=Policy(newest_wins=False, joins=False))
    async with upstream(default=SLOW) as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        path = "/calm/chat/completions"
        replies = await asyncio.gather(*(served.post(path, asks(text), CALL) for text in ("a", "b", "b")))
    assert [read_stream(reply.body).text for reply in replies] == ["One two."] * 3 and len(up.exchanges) == 3


async def test_a_turn_stops_only_when_its_last_client_leaves(tmp_path: Path, nothing_left: None) -> None:
    async with upstream(default=[("chunk", "One "), ("hang",)]) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            first, second = await begin(served, asks("hi")), await begin(served, asks("hi"))
            await asyncio.gather(heard(first), heard(second))
            first.reset()
            third = await begin(served, asks("hi"))
            await heard(third)
            second.reset()
            assert len(up.exchanges) == 1 and up.exchanges[0].left is None
            third.writer.close()
            await up.until(lambda: up.exchanges[0].left is not None)
            await up.until(lambda: not served.state.runs.open)


async def test_a_client_that_sends_again_joins_its_lingering_turn(tmp_path: Path) -> None:
    body = asks("hi", elevenlabs_extra_body={"call_id": "c-1"})
    async with upstream(default=SLOW) as up, serving(tmp_path, models={"main": up.url}) as served:
        first = await served.connect()
        await first.send(served.request("/chat/completions", body))
        await heard(first)
        first.reset()
        again = read_stream((await served.post("/chat/completions", body)).body)
    assert again.text == "One two." and len(up.exchanges) == 1


async def test_a_lingering_turn_ends_after_its_time_or_at_the_next_turn(tmp_path: Path) -> None:
    hangs: list[Action] = [("chunk", "One "), ("hang",)]
    short = Graph(name="short", steps=(Step("call_model"),), policy=Policy(linger_ms=150))
    long = Graph(name="long", steps=(Step("call_model"),), policy=Policy(linger_ms=30_000))
    async with upstream(hangs, hangs, says("New.")) as up:
        async with serving(tmp_path, (short, []), (long, []), models={"main": up.url}) as served:
            for spec in (short, long):
                connection = await begin(served, asks("hi"), f"/{spec.name}/chat/completions")
                await heard(connection)
                connection.reset()
                if spec is short:
                    await up.until(lambda: up.exchanges[0].left is not None)
            await served.post("/long/chat/completions", asks("next"), CALL)
            await up.until(lambda: up.exchanges[1].left is not None)


async def test_a_failed_turn_runs_again_when_it_is_repeated(tmp_path: Path) -> None:
    fails: list[Action] = [("chunk", "One "), ("fin",)]
    async with upstream(fails, default=says("Fine.")) as up, serving(tmp_path, models={"main": up.url}) as served:
        broken = read_stream((await served.post("/chat/completions", asks("hi"), CALL)).body)
        mended = read_stream((await served.post("/chat/completions", asks("hi"), CALL)).body)
    assert broken.error is not None and mended.text == "Fine." and len(up.exchanges) == 2


async def test_a_failed_turn_speaks_the_fallback_if_configured(tmp_path: Path) -> None:
    spec = Graph(
        name="kind",
        steps=(Step("call_model", then={"answered": END, "hangup": "hangup"}), Step("hangup")),
        policy=Policy(on_failure="speak", fallback={"en": "Sorry.", "zh": "抱歉。"}),
    )
    cut: list[Action] = [("chunk", "Half a"), ("fin",)]
    async with upstream([("status", 400, {}, b"{}")], cut, [("status", 400, {}, b"{}")], cut) as up:
        async with serving(tmp_path, (spec, []), models={"main": up.url}) as served:
            path = "/kind/chat/completions"
            before = read_stream((await served.ask("hi", path)).body)
            after = read_stream((await served.ask("你好", path)).body)
            whole = (await served.ask("hi", path, stream=False)).json()["choices"][0]
            body = asks("hi", elevenlabs_extra_body={})
            profile = read_stream((await served.post("/chat/completions", body)).body)
    assert (before.text, before.finish, before.error) == ("Sorry.", "stop", None)
    assert (after.text, after.finish) == ("Half a 抱歉。", "stop")
    assert (whole["message"]["content"], whole["finish_reason"]) == ("Sorry.", "stop")
    assert "went wrong" in profile.text and profile.finish == "stop"


async def test_a_thousand_cancelled_turns_of_one_call_leave_nothing_open(tmp_path: Path, nothing_left: None) -> None:
    async with upstream(default=[("chunk", "One "), ("hang",)]) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            for batch in range(20):
                connections = [await begin(served, asks(f"{batch} {at}")) for at in range(50)]
                for connection in connections:
                    connection.reset()
            await up.until(lambda: not served.state.runs.open and up.open <= 4, 10)
            up.default = says("Still here.")
            assert read_stream((await served.post("/chat/completions", asks("hi"), CALL)).body).text == "Still here."


async def test_a_turn_that_is_stopping_is_not_joined(tmp_path: Path) -> None:
    entered = asyncio.Event()

    @node()
    async def slow_to_leave(state: State, turn: Turn) -> Update:
        """Take a while to clean up."""
        if len(turn.messages) and not entered.is_set():
            entered.set()
            try:
                await asyncio.sleep(30)
            finally:
                await asyncio.sleep(0.2)
        return None

    spec = Graph(name="slow", steps=(Step("slow_to_leave"), Step("call_model")))
    async with upstream(default=says("Whole.")) as up:
        async with serving(tmp_path, (spec, [slow_to_leave]), models={"main": up.url}) as served:
            path = "/slow/chat/completions"
            first = await begin(served, asks("hi"), path)
            await entered.wait()
            first.reset()
            await up.until(lambda: all(run.stopped for run in served.state.runs.open))
            again = read_stream((await served.post(path, asks("hi"), CALL)).body)
    assert again.text == "Whole." and again.finish == "stop"


async def test_in_passthrough_mode_each_key_is_a_principal_of_its_own(tmp_path: Path) -> None:
    async with upstream(default=SLOW) as up:
        settings: Any = {"models": {"main": up.url}, "auth": "passthrough", "endpoints": ("chat",)}
        async with serving(tmp_path, **settings) as served:

            async def call(key: str) -> bytes:
                headers = {**CALL, "authorization": f"Bearer {key}"}
                return (await served.post("/chat/completions", asks(f"I am {key}"), headers)).body

            bodies = await asyncio.gather(call("key-of-alice"), call("key-of-bob"))
    assert [read_stream(body).text for body in bodies] == ["One two."] * 2
    assert {one.headers["authorization"] for one in up.exchanges} == {"Bearer key-of-alice", "Bearer key-of-bob"}


async def test_ended_turns_do_not_hold_their_requests_in_memory(tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        import gc
        import weakref

        for at in range(5):
            reply = await served.post(
                "/chat/completions", asks(f"{at}", padding="x" * 1_000_000), {"x-call-id": f"{at}"}
            )
            assert reply.status == 200
        gc.collect()
        turns = [one for one in gc.get_objects() if isinstance(one, Turn)]
        kept = [weakref.ref(one) for one in turns if len(str(one.request)) > 1_000_000]
        assert len(kept) <= 1, "only the last turn may still hold its request"
