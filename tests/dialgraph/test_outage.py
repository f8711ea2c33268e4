"""A model that is away, slow or broken: what replaces it, and what an outage costs."""

import time
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.spec import Graph, Step
from dialgraph.services.services import OpenServices
from dialgraph.services.settings import GraphSettings
from tests.support.serving import serving
from tests.support.upstream import Action, calls, says, upstream
from tests.support.wire import read_stream

REFUSED = "http://127.0.0.1:9/v1"
BACKED = Graph(name="backed", steps=(Step("call_model", options={"fallbacks": ["second", "third"]}),))
HEDGED = Graph(name="hedged", steps=(Step("call_model", options={"fallbacks": ["second"], "hedge_after_ms": 50}),))


@pytest.mark.parametrize(
    "fails",
    [
        [("status", 500, {}, b"{}")] * 3,
        [("status", 400, {}, b"{}")],
        [("status", 401, {}, b"{}")],
        [("fin",), ("fin",), ("fin",)],
        [("headers",), ("fin",)],
        [("delta", {"reasoning_content": "hm"}), ("fin",)],
        [("finish", "stop"), ("done",)],
    ],
)
async def test_a_second_model_answers_if_the_first_fails_before_any_word(tmp_path: Path, fails: list[Action]) -> None:
    scripts: list[list[Action]] = [[action] for action in fails] if fails[0][0] in ("status", "fin") else [fails]
    async with upstream(*scripts) as first, upstream(default=says("Second.")) as second:
        models: dict[str, Any] = {"main": {"url": first.url, "api_key": "first-key"}, "second": second.url}
        async with serving(tmp_path, (BACKED, []), models={**models, "third": REFUSED}) as served:
            answer = read_stream((await served.ask("hi", "/backed/chat/completions", model="backed/big")).body)
    assert answer.text == "Second." and answer.reasoning == ""
    assert "authorization" not in second.exchanges[0].headers and second.bodies[0].get("model") != "big"


async def test_no_other_model_is_asked_after_the_first_word(tmp_path: Path) -> None:
    async with upstream([("chunk", "First "), ("fin",)]) as first, upstream() as second:
        models = {"main": first.url, "second": second.url, "third": second.url}
        async with serving(tmp_path, (BACKED, []), models=models) as served:
            answer = read_stream((await served.ask("hi", "/backed/chat/completions")).body)
    assert answer.text == "First " and answer.error is not None and not second.exchanges


async def test_the_last_failure_is_reported_when_all_models_fail(tmp_path: Path) -> None:
    broken: list[Action] = [("status", 404, {}, b"{}")]
    async with upstream(default=broken) as first:
        models = {"main": REFUSED, "second": REFUSED, "third": first.url}
        async with serving(tmp_path, (BACKED, []), models=models) as served:
            reply = await served.ask("hi", "/backed/chat/completions")
    assert reply.status == 404 and reply.error["code"] == "upstream_not_found"


async def test_a_slow_model_is_raced_and_the_loser_is_stopped(tmp_path: Path, nothing_left: None) -> None:
    slow: list[Action] = [("delta", {"reasoning_content": "hm"}), ("sleep", 20), *says("Late.")]
    async with upstream(default=slow) as first, upstream(default=says("Second.")) as second:
        models = {"main": first.url, "second": second.url}
        async with serving(tmp_path, (HEDGED, []), models=models) as served:
            began = time.monotonic()
            answer = read_stream((await served.ask("hi", "/hedged/chat/completions")).body)
            took = time.monotonic() - began
            await first.until(lambda: first.exchanges[0].left is not None)
    assert answer.text == "Second." and answer.reasoning == "" and took < 10, (
        "long before the deadline of the first model"
    )


async def test_a_quick_model_is_not_raced(tmp_path: Path) -> None:
    async with upstream(calls("f")) as first, upstream() as second:
        models = {"main": first.url, "second": second.url}
        async with serving(tmp_path, (HEDGED, []), models=models) as served:
            answer = read_stream((await served.ask("hi", "/hedged/chat/completions")).body)
    assert [call["name"] for call in answer.tool_calls] == ["f"] and not second.exchanges


async def test_a_client_that_leaves_a_race_stops_both_models(tmp_path: Path, nothing_left: None) -> None:
    async with upstream(default=[("hang",)]) as first, upstream(default=[("hang",)]) as second:
        models = {"main": first.url, "second": second.url}
        async with serving(tmp_path, (HEDGED, []), models=models) as served:
            connection = await served.connect()
            body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
            await connection.send(served.request("/hedged/chat/completions", body))
            await first.until(lambda: bool(second.exchanges))
            connection.reset()
            await first.until(lambda: all(one.exchanges[0].left is not None for one in (first, second)))


async def test_an_outage_costs_one_deadline_and_not_one_per_call(tmp_path: Path) -> None:
    hangs: list[Action] = [("hang",)]
    async with upstream(hangs, default=says("Back.")) as up:
        model = {"url": up.url, "first_byte_seconds": 0.3, "away_seconds": 0.4}
        async with serving(tmp_path, models={"main": model}) as served:
            up.deaf = True
            first = await served.ask()
            began = time.monotonic()
            more = [await served.ask() for _ in range(5)]
            quick = time.monotonic() - began
            ready = (await served.get("/ready")).json()
            await up.until(lambda: time.monotonic() - began > 0.45)
            back = read_stream((await served.ask()).body)
            healthy = (await served.get("/ready")).json()
    assert first.status == 504 and first.error["code"] == "upstream_timeout"
    assert {reply.status for reply in more} == {503} and quick < 0.3 and len(up.exchanges) == 2
    assert more[0].error["code"] == "upstream_unavailable" and more[0].headers["retry-after"] == "1"
    assert ready["status"] == "ok" and ready["models"] == {"main": "down"}
    assert back.text == "Back." and healthy["models"] == {"main": "up"}


async def test_one_slow_question_among_many_is_not_an_outage(tmp_path: Path) -> None:
    async with upstream([("hang",)]) as up:
        model = {"url": up.url, "first_byte_seconds": 0.3}
        async with serving(tmp_path, models={"main": model}) as served:
            connection = await served.connect()
            body = {"messages": [{"role": "user", "content": "slow"}], "stream": True}
            await connection.send(served.request("/chat/completions", body))
            await up.until(lambda: len(up.exchanges) == 1)
            assert (await served.ask()).status == 200
            assert (await connection.reply()).status == 504
            assert (await served.ask()).status == 200


async def test_while_one_call_tries_a_failed_model_others_do_not_wait(tmp_path: Path) -> None:
    services = OpenServices(GraphSettings(data_dir=tmp_path, models={"main": {"url": REFUSED, "away_seconds": 0.01}}))
    breaker = services.model("main").breaker
    from dialgraph.models.errors import ModelError

    with pytest.raises(ModelError), breaker.attempt():
        raise ModelError("timeout", "late")
    began = time.monotonic()
    while time.monotonic() - began < 0.02:
        pass
    with breaker.attempt():
        assert breaker.health == "trying"
        with pytest.raises(ModelError, match="is unavailable"):
            breaker.attempt()
    await services.aclose()


async def test_the_on_timeout_step_can_tell_the_caller_about_a_late_step(tmp_path: Path) -> None:
    from dialgraph.turn.node import State, Turn, Update, node

    @node(writes="passages")
    async def look_up(state: State, turn: Turn) -> Update:
        """Take much longer than the deadline."""
        import asyncio

        await asyncio.sleep(30)
        return {"passages": []}

    @node(speaks=True)
    async def apologise(state: State, turn: Turn) -> Update:
        """Say that there are no passages."""
        await turn.say("I could not look it up. ")
        return None

    spec = Graph(
        name="late",
        steps=(
            Step("look_up", timeout_ms=50, on_timeout="apologise", then="call_model"),
            Step("apologise"),
            Step("call_model"),
        ),
    )
    async with upstream() as up, serving(tmp_path, (spec, [look_up, apologise]), models={"main": up.url}) as served:
        assert read_stream((await served.ask("hi", "/late/chat/completions")).body).text == (
            "I could not look it up. Hello there."
        )


async def test_a_single_slow_question_does_not_block_the_model(tmp_path: Path) -> None:
    async with upstream([("hang",)]) as up:
        async with serving(tmp_path, models={"main": {"url": up.url, "first_byte_seconds": 0.2}}) as served:
            assert (await served.ask()).status == 504
            await up.until(lambda: served.state.services.model_health() == {"main": "up"})
            assert (await served.ask()).status == 200


async def test_a_slow_trial_request_does_not_hold_up_other_calls(tmp_path: Path) -> None:
    processing: list[Action] = [("headers",), *[("raw", b": processing\n\n"), ("sleep", 0.05)] * 20, *says("Slow.")]
    async with upstream([("hang",)], processing) as up:
        model = {"url": up.url, "first_byte_seconds": 1.0, "away_seconds": 0.3}
        async with serving(tmp_path, models={"main": model}) as served:
            up.deaf = True
            began = time.monotonic()
            assert (await served.ask()).status == 504
            await up.until(lambda: time.monotonic() - began > 1.4)
            connection = await served.connect()
            body = {"messages": [{"role": "user", "content": "slow"}], "stream": True}
            await connection.send(served.request("/chat/completions", body))
            await up.until(lambda: len(up.exchanges) == 2)
            await up.until(lambda: time.monotonic() - began > 1.55)
            assert (await served.ask()).status == 200
            await connection.aclose()


async def test_a_race_that_exceeds_its_steps_deadline_stops_both_models(tmp_path: Path) -> None:
    from dialgraph.turn.node import State, Turn, Update, node

    @node(speaks=True)
    async def apologise(state: State, turn: Turn) -> Update:
        """Continue the turn long after the race."""
        import asyncio

        await asyncio.sleep(1.5)
        await turn.say("Sorry.")
        return None

    race = Step(
        "call_model",
        options={"fallbacks": ["second"], "hedge_after_ms": 50},
        timeout_ms=200,
        on_timeout="apologise",
        then="END",
    )
    spec = Graph(name="races", steps=(race, Step("apologise")))
    async with upstream(default=[("hang",)]) as first, upstream(default=[("hang",)]) as second:
        models = {"main": first.url, "second": second.url}
        async with serving(tmp_path, (spec, [apologise]), models=models) as served:
            answer = read_stream((await served.ask("hi", "/races/chat/completions")).body)
            ended = time.monotonic()
    assert answer.text == "Sorry."
    for one in (first, second):
        assert one.exchanges[0].left is not None and ended - one.exchanges[0].left > 1, (
            "both models must be stopped before the next step"
        )
