"""The times of a turn: parts that add up, in the header Server-Timing, on request in the reply, and in the log."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from dialgraph import Graph, GuardRule, Policy, Step
from tests.support.serving import serving
from tests.support.upstream import says, upstream

QUESTION = {"stream": True, "messages": [{"role": "user", "content": "Can I bring my dog?"}]}
WANTS = {"x-dialgraph-timings": "true"}
RAG = "/rag/chat/completions"


def timings_in(body: bytes) -> dict[str, Any]:
    chunks = [json.loads(line[6:]) for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    [found] = [chunk for chunk in chunks if "timings" in chunk]
    assert found["choices"] == [] and found["object"] == "chat.completion.chunk"
    return dict(found["timings"])


def header_parts(value: str) -> dict[str, float]:
    return {name: float(ms) for name, _, ms in (one.partition(";dur=") for one in value.split(", "))}


async def test_the_parts_add_up_to_the_first_word(tmp_path: Path) -> None:
    slow = [("sleep", 0.3), *says("Dogs ", "are welcome.")]
    async with upstream(slow) as up, serving(tmp_path, models={"main": up.url}) as served:
        reply = await served.post(RAG, QUESTION, WANTS)
    told = timings_in(reply.body)
    assert sum(told["parts"].values()) == pytest.approx(told["first_word_ms"], abs=0.1)
    assert told["parts"]["call_model.model"] >= 290 > told["first_word_ms"] - told["parts"]["call_model.model"]
    assert list(told["parts"])[:2] == ["read", "admission"] and {"retrieve", "held", "send"} <= set(told["parts"])
    assert told["total_ms"] >= told["first_word_ms"] and "first_audio_ms" not in told


async def test_the_header_says_what_is_known_when_it_is_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        streamed = await served.post(RAG, QUESTION)
        whole = await served.post(RAG, {**QUESTION, "stream": False})
    for reply in (streamed, whole):
        assert {"read", "admission", "retrieve", "call_model.model"} <= set(
            header_parts(reply.headers["server-timing"])
        )
    assert b"timings" not in streamed.body + whole.body, "a client that does not ask gets no other bytes"


async def test_a_filler_is_told_apart_from_the_first_word(tmp_path: Path) -> None:
    spec = Graph(name="f", steps=(Step("acknowledge", options={"after_ms": 1}), Step("call_model")))
    slow = [("sleep", 0.3), *says("Yes.")]
    async with upstream(slow) as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        reply = await served.post("/f/chat/completions", QUESTION, WANTS)
    told = timings_in(reply.body)
    assert 0 < told["filler_ms"] < 290 <= told["first_word_ms"]
    assert sum(told["parts"].values()) == pytest.approx(told["first_word_ms"], abs=0.1)
    assert "call_model.model" in header_parts(reply.headers["server-timing"]), "the wait so far"


async def test_words_that_the_guard_holds_back_are_a_part(tmp_path: Path) -> None:
    rule = GuardRule(find="words", words=("secret",))
    spec = Graph(name="g", steps=(Step("call_model"),), policy=Policy(guard=(rule,)))
    slow = [("chunk", "One "), ("sleep", 0.2), *says("sentence. Next.")]
    async with upstream(slow) as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        told = timings_in((await served.post("/g/chat/completions", QUESTION, WANTS)).body)
    assert told["parts"]["held"] >= 190


async def test_sound_has_a_time_of_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        reply = await served.post("/audio/chat/completions", QUESTION, WANTS)
    told = timings_in(reply.body)
    assert told["first_audio_ms"] > 0 and told["parts"]["voice"] > 0
    assert sum(told["parts"].values()) == pytest.approx(told["first_audio_ms"], abs=0.1)


@pytest.mark.parametrize(("path", "body"), [(RAG, QUESTION), ("/rag/responses", {"input": "Can I bring my dog?"})])
async def test_a_whole_reply_has_the_times_too(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    async with serving(tmp_path) as served:
        told = (await served.post(path, {**body, "stream": False}, WANTS)).json()["timings"]
    assert told["first_word_ms"] > 0 and "retrieve" in told["parts"]


async def test_the_log_line_has_the_call_and_the_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dialgraph.turns")
    async with serving(tmp_path) as served:
        await served.post(RAG, {**QUESTION, "call_id": "call-1"})
    [line] = [record for record in caplog.records if record.getMessage() == "turn"]
    fields = vars(line)
    assert (fields["tokens"], fields["cost_usd"], fields["outcome"]) == (0, 0.0, "complete")
    assert fields["call"] == "call-1" and sum(fields["parts"].values()) == pytest.approx(
        fields["first_word_ms"], abs=0.1
    )
