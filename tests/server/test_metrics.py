"""The metrics of a server: each turn is counted once, everywhere, and only an operator may read them."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dialgraph import END, Graph, GuardRule, Policy, Step, compile_graph
from dialgraph.storage.tables.usage import USAGE
from server.metrics.table import METRICS
from tests.support.serving import Served, add_graphs, serving
from tests.support.upstream import calls, says, upstream

ASKED = {"stream": True, "messages": [{"role": "user", "content": "Can I bring my dog?"}]}


async def scraped(served: Served) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every sample of a scrape, by its name and labels."""
    reply = await served.get("/metrics")
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(reply.body.decode())
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def value(samples: dict[Any, float], name: str, **labels: str) -> float:
    """Return the sum of the samples with these labels."""
    return sum(found for (own, its), found in samples.items() if own == name and labels.items() <= dict(its).items())


def order_status(number: str) -> str:
    """Return where an order is."""
    return f"Order {number} is on its way."


async def test_every_metric_of_the_table_is_in_a_scrape(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        text = (await served.get("/metrics")).body.decode()
    for metric in METRICS:
        assert f"# TYPE {metric.name} {metric.kind}" in text


async def test_a_turn_is_counted_with_its_parts_steps_and_tokens(tmp_path: Path) -> None:
    answer = [*says("Dogs ", "are welcome.")[:-1], ("usage", {"prompt_tokens": 30, "completion_tokens": 4}), ("done",)]
    async with upstream(answer) as up, serving(tmp_path, models={"main": up.url}) as served:
        await served.post("/rag/chat/completions", ASKED)
        found = await scraped(served)
    assert value(found, "dialgraph_turns_total", graph="rag", outcome="complete", profile="openai") == 1
    assert value(found, "dialgraph_turn_first_word_seconds_count", graph="rag") == 1
    assert value(found, "dialgraph_turn_first_audio_seconds_count") == 0
    whole = value(found, "dialgraph_turn_first_word_seconds_sum", graph="rag")
    assert value(found, "dialgraph_turn_part_seconds_sum", graph="rag") == pytest.approx(whole, abs=1e-4)
    assert value(found, "dialgraph_step_seconds_count", graph="rag", step="retrieve") == 1
    assert value(found, "dialgraph_model_time_to_first_chunk_seconds_count", model="main") == 1
    assert value(found, "dialgraph_tokens_total", model="main", kind="prompt") == 30
    assert value(found, "dialgraph_tokens_total", model="main", kind="completion") == 4
    assert value(found, "dialgraph_turns_in_flight") == 0


async def test_tools_guards_fillers_and_failures_are_counted(tmp_path: Path) -> None:
    tools = Graph(
        name="agent",
        steps=(Step("call_model", then={"answered": END, "tools": "run_tools"}), Step("run_tools", then="call_model")),
    )
    rule = GuardRule(find="phone_numbers")
    shy = Graph(name="shy", steps=(Step("call_model"),), policy=Policy(guard=(rule,)))
    slow = Graph(name="slow", steps=(Step("acknowledge", options={"after_ms": 1}), Step("call_model")))
    scripts: tuple[list[tuple[Any, ...]], ...] = (
        calls("order_status", '{"number": "7"}'), says("It is on its way."), says("Call 555-123-4567 now."),
        [("sleep", 0.2), *says("Yes.")], [("status", 400, {}, b"{}")],
    )  # fmt: skip
    async with upstream(*scripts) as up, serving(tmp_path, (shy, []), (slow, []), models={"main": up.url}) as served:
        add_graphs(served.app, compiled=[(tools, compile_graph(tools, tools=[order_status]))])
        for path in ("agent", "shy", "slow", "chat"):
            await served.post(f"/{path}/chat/completions", ASKED)
        found = await scraped(served)
    assert value(found, "dialgraph_tool_seconds_count", tool="order_status", outcome="ok") == 1
    assert value(found, "dialgraph_guard_actions_total", graph="shy", rule="phone_numbers") == 1
    assert value(found, "dialgraph_fillers_total", graph="slow") == 1
    assert value(found, "dialgraph_turns_total", graph="chat", outcome="error:upstream_rejected") == 1
    assert value(found, "dialgraph_model_errors_total", model="main", error="rejected") == 1


async def test_a_turn_that_is_left_is_counted_as_cancelled(tmp_path: Path) -> None:
    async with upstream([("chunk", "One "), ("hang",)]) as up, serving(tmp_path, models={"main": up.url}) as served:
        client = await served.connect()
        await client.send(served.request("/chat/chat/completions", ASKED))
        await client.head()
        client.writer.close()
        await up.until(lambda: up.exchanges[0].left is not None, 20)
        found = await scraped(served)
        while not value(found, "dialgraph_cancel_seconds_count"):
            found = await scraped(served)
    assert value(found, "dialgraph_turns_total", graph="chat", outcome="cancelled") == 1


async def test_scrape_log_and_ledger_agree_after_a_hundred_calls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dialgraph.turns")
    kinds = [says("Yes."), [("status", 400, {}, b"{}")], [("chunk", "One "), ("rst",)], says("A ", "long ", "answer.")]
    async with upstream(*kinds * 25) as up, serving(tmp_path, models={"main": up.url}) as served:
        replies = [
            served.post(f"/{('rag', 'chat')[at % 2]}/chat/completions", {**ASKED, "call_id": f"call-{at}"})
            for at in range(100)
        ]
        await asyncio.gather(*replies)
        found = await scraped(served)
        await served.state.ledger.write()
        async with served.state.services.database.reading() as connection:
            rows = (await connection.execute(USAGE.select())).all()
    lines = [vars(record) for record in caplog.records if record.getMessage() == "turn" and not vars(record)["joined"]]
    outcomes = sorted(line["outcome"] for line in lines)
    assert len(lines) == len(rows) == value(found, "dialgraph_turns_total") == 100
    assert outcomes == sorted(row.outcome for row in rows) and set(outcomes) > {"complete", "error:upstream_rejected"}
    for outcome in set(outcomes):
        assert value(found, "dialgraph_turns_total", outcome=outcome) == outcomes.count(outcome)
    assert value(found, "dialgraph_tokens_total") == sum(row.prompt_tokens + row.completion_tokens for row in rows)


async def test_only_an_operator_may_read_the_metrics(tmp_path: Path) -> None:
    async with serving(tmp_path, auth="") as served:
        refused = await served.get("/metrics")
        token = served.state.authenticator.token
        allowed = await served.get("/metrics", {"authorization": f"Bearer {token}"})
    assert (refused.status, allowed.status) == (401, 200)


async def test_a_refused_request_is_one_line_without_its_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(tmp_path) as served:
        for _ in range(30):
            await served.post("/rag/chat/completions?key=private", {"messages": "private"})
        await served.get("/nothing/here")
        found = await scraped(served)
    lines = [vars(record) for record in caplog.records if record.name == "dialgraph.requests"]
    assert [line["code"] for line in lines] == ["invalid_value"] * 10 + ["not_found"], "and not thirty"
    assert lines[0]["path"] == "/rag/chat/completions" and lines[0]["status"] == 400
    assert lines[-1]["path"] == "(unknown)", "a stranger chose it"
    assert "private" not in json.dumps(lines, default=str)
    assert value(found, "dialgraph_requests_refused_total", status="400", code="invalid_value") == 30
