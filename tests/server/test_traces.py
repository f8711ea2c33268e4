"""Traces and metrics over OTLP, as a receiver decodes them with OpenTelemetry's own protobufs."""

import logging
from pathlib import Path
from typing import Any

import pytest

from dialgraph import END, Graph, Memory, Policy, Step, compile_graph
from tests.support.otlp import attributes, receiver
from tests.support.serving import add_graphs, serving
from tests.support.upstream import calls, says, upstream

ASKED = {"stream": True, "messages": [{"role": "user", "content": "Can I bring my dog? I am Trillian."}]}


def order_status(number: str) -> str:
    """Return where an order is."""
    return f"Order {number} is on its way."


def answer(*words: str) -> list[tuple[Any, ...]]:
    return [*says(*words)[:-1], ("usage", {"prompt_tokens": 30, "completion_tokens": 4}), ("done",)]


async def test_a_turn_is_one_trace_with_its_steps_models_and_tools(tmp_path: Path) -> None:
    spec = Graph(
        name="agent",
        steps=(
            Step("retrieve"),
            Step("call_model", then={"answered": END, "tools": "run_tools"}),
            Step("run_tools", then="call_model"),
        ),
    )
    scripts = (calls("order_status", '{"number": "7"}'), answer("On its way."))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with receiver() as got:
        settings: dict[str, Any] = {"otel_url": got.url, "otel_headers": "authorization=Basic abc, x-y=1"}
        async with upstream(*scripts) as up, serving(tmp_path, models={"main": up.url}, **settings) as served:
            add_graphs(served.app, compiled=[(spec, compile_graph(spec, tools=[order_status]))])
            body = {**ASKED, "call_id": "call-1", "model": "gpt-x"}
            await served.post("/agent/chat/completions", body, {"traceparent": parent})
    [root] = got.named("invoke_agent agent")
    assert root.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c" and root.parent_span_id.hex() == "b7ad6b7169203331"
    about = attributes(root)
    assert about["gen_ai.conversation.id"] == about["session.id"] == "call-1" and about["gen_ai.agent.name"] == "agent"
    assert about["gen_ai.agent.invocation.end_reason"] == "completed" and about["dialgraph.first_word_ms"] > 0
    assert "input.value" not in about, "what was said is private"
    first, second = got.named("chat gpt-x")
    tool, retrieval = got.named("execute_tool order_status")[0], got.named("retrieval main")[0]
    steps = {
        span.span_id: attributes(span)["dialgraph.step"] for span in got.spans if "dialgraph.step" in attributes(span)
    }
    assert steps[first.parent_span_id] == steps[second.parent_span_id] == "call_model"
    assert steps[tool.parent_span_id] == "run_tools" and retrieval.parent_span_id == root.span_id
    assert {span.trace_id for span in got.spans} == {root.trace_id}
    model = attributes(second)
    assert model["gen_ai.operation.name"] == "chat" and model["gen_ai.usage.input_tokens"] == 30
    assert model["gen_ai.response.time_to_first_chunk"] > 0 and model["server.address"] == "127.0.0.1"
    assert (
        root.start_time_unix_nano <= first.start_time_unix_nano <= second.end_time_unix_nano <= root.end_time_unix_nano
    )
    assert all(one["authorization"] == "Basic abc" and one["x-y"] == "1" for one in got.headers)
    metrics = {metric.name: metric for metric in got.metrics}
    assert {"gen_ai.invoke_agent.duration", "gen_ai.client.inference.duration", "gen_ai.execute_tool.duration"} <= set(
        metrics
    )
    points = metrics["gen_ai.client.inference.duration"].histogram.data_points
    assert sum(point.count for point in points) == 2 and points[0].explicit_bounds[0] == 0.01
    assert "gen_ai.client.operation.duration" not in metrics


async def test_failures_are_marked_and_older_names_come_if_asked_for(tmp_path: Path) -> None:
    with receiver() as got:
        settings: dict[str, Any] = {"otel_url": got.url, "otel_older_names": True}
        refused: list[tuple[Any, ...]] = [("status", 400, {}, b"{}")]
        async with upstream(refused) as up, serving(tmp_path, models={"main": up.url}, **settings) as served:
            await served.post("/chat/chat/completions", ASKED)
    [root], [model] = got.named("invoke_agent chat"), got.named("chat gpt-4o-mini") or got.named("chat main")
    assert attributes(root)["error.type"] == "upstream_rejected" and root.status.code == 2
    assert attributes(model)["error.type"] == "rejected" and attributes(model)["gen_ai.system"] == "127.0.0.1"
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"} <= {metric.name for metric in got.metrics}


async def test_what_was_said_is_exported_only_if_asked_for_and_redacted(tmp_path: Path) -> None:
    spec = Graph(name="shy", steps=(Step("call_model"),), policy=Policy(private=("Trillian",)))
    with receiver() as got:
        settings: dict[str, Any] = {"otel_url": got.url, "otel_content": True}
        words = answer("Your card 4111 1111 ", "1111 1111, Trillian.")
        async with upstream(words) as up, serving(tmp_path, (spec, []), models={"main": up.url}, **settings) as served:
            await served.post("/shy/chat/completions", {**ASKED, "call_id": "+49 170 1234567"})
    about = attributes(got.named("invoke_agent shy")[0])
    assert about["input.value"].startswith("Can I bring my dog?") and about["output.value"].startswith("Your card 4")
    for private in ("4111", "Trillian", "1234567"):
        assert private not in str(got.spans), private


async def test_private_slots_are_in_no_trace_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    spec = Graph(
        name="desk",
        policy=Policy(memory=Memory(slots={"name": "text"}, private=("name",))),
        steps=(Step("call_model", then={"answered": END, "told": "remember"}), Step("remember", then="call_model")),
    )
    scripts = (calls("remember", '{"name": "Zaphod"}'), answer("Thank you, ", "Zaphod."))
    with receiver() as got:
        settings: dict[str, Any] = {"otel_url": got.url, "otel_content": True, "log_prompts": True}
        async with (
            upstream(*scripts) as up,
            serving(tmp_path, (spec, []), models={"main": up.url}, **settings) as served,
        ):
            body = {"stream": True, "call_id": "c", "messages": [{"role": "user", "content": "I am Zaphod."}]}
            await served.post("/desk/chat/completions", body)
    assert attributes(got.named("invoke_agent desk")[0])["output.value"].startswith("Thank you, ")
    assert "Zaphod" not in str(got.spans)
    prompts = [vars(record)["messages"] for record in caplog.records if record.getMessage() == "prompt"]
    assert len(prompts) == 2 and "Zaphod" not in prompts[1], "the second prompt knows the name"


async def test_a_receiver_that_fails_disturbs_no_call(tmp_path: Path) -> None:
    with receiver(status=400) as got:
        async with serving(tmp_path, otel_url=got.url) as served:
            reply = await served.post("/rag/chat/completions", ASKED)
    assert reply.status == 200 and b"[DONE]" in reply.body
