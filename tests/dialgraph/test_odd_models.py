"""Odd models: what servers do to a stream of chat completions, each case over TCP, and what the caller gets."""

import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.compile import compile_graph
from dialgraph.graph.spec import END, Graph, Step
from tests.support import odd_streams
from tests.support.serving import CHAT, Reply, Served, add_graphs, serving
from tests.support.upstream import HEAD, Action, Upstream, calls, delta, event, says, upstream
from tests.support.wire import Answer, read_stream

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
BONN = '{"city":"Bonn"}'
VOICE = {"x-dialgraph-profile": "livekit"}
SPOKEN = {"x-dialgraph-profile": "vapi"}
FALLBACK = "I am sorry, something went wrong on my side."


@asynccontextmanager
async def scene(folder: Path, *scripts: list[Action], **model: Any) -> AsyncIterator[tuple[Served, Upstream]]:
    """Start our server in front of a scripted upstream."""
    async with upstream(*scripts) as up:
        async with serving(folder, models={"main": {"url": up.url, **model}}) as served:
            yield served, up


async def ask(served: Served, headers: dict[str, str] | None = None, **fields: Any) -> Reply:
    """Send one turn and return the reply."""
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, **fields}
    return await served.post(CHAT, body, headers)


async def answer(folder: Path, script: list[Action], headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    """Return what the client gets for one scripted answer."""
    async with scene(folder, script) as (served, _):
        reply = await ask(served, headers, **fields)
    assert reply.status == 200, reply.body
    return read_stream(reply.body)


def fragments(*parts: dict[str, Any], finish: str = "tool_calls") -> list[Action]:
    """Return an answer that consists of these fragments of tool calls."""
    return [*(("delta", {"tool_calls": [part]}) for part in parts), ("finish", finish), ("done",)]


def call(name: str | None = None, arguments: Any = None, **fields: Any) -> dict[str, Any]:
    """Return a fragment of a tool call."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**fields, "function": function}


CALLS: dict[str, tuple[list[Action], list[tuple[str, str]]]] = {
    "all of index 0, without ids": (
        fragments(call("weather", BONN, index=0, id=""), call("get_time", "{}", index=0, id="")),
        [("weather", BONN), ("get_time", "{}")],
    ),
    "one id for two calls": (
        fragments(call("weather", BONN, index=0, id="x"), call("weather", '{"city":"Köln"}', index=0, id="x")),
        [("weather", BONN), ("weather", '{"city":"Köln"}')],
    ),
    "no index at all": (
        fragments(call("weather", '{"ci', id="a"), call(None, 'ty":"Bonn"}'), call("get_time", "{}", id="b")),
        [("weather", BONN), ("get_time", "{}")],
    ),
    "an id in every fragment": (
        fragments(*(call("weather" if not at else None, piece, index=0, id="a") for at, piece in enumerate(BONN))),
        [("weather", BONN)],
    ),
    "another id in every fragment": (
        fragments(*(call("weather" if not at else None, piece, index=0, id=f"a{at}") for at, piece in enumerate(BONN))),
        [("weather", BONN)],
    ),
    "the name in every fragment": (
        fragments(*(call("weather", piece, index=0, id="a") for piece in (BONN[:5], BONN[5:]))),
        [("weather", BONN)],
    ),
    "the name in pieces": (
        fragments(call("wea", None, index=0, id="a"), call("ther", None, index=0), call(None, BONN, index=0)),
        [("weather", BONN)],
    ),
    "the name late": (
        fragments(call(None, BONN[:4], index=0, id="a"), call("weather", BONN[4:], index=0)),
        [("weather", BONN)],
    ),
    "a name with a channel": (
        fragments(call("weather<|channel|>commentary", BONN, index=0, id="a")),
        [("weather", BONN)],
    ),
    "a name with a namespace": (fragments(call("functions.weather", BONN, index=0, id="a")), [("weather", BONN)]),
    "arguments as an object": (fragments(call("weather", {"city": "Bonn"}, index=0, id="a")), [("weather", BONN)]),
    "arguments as a JSON string": (fragments(call("weather", json.dumps(BONN), index=0, id="a")), [("weather", BONN)]),
    "arguments null": (fragments(call("get_time", None, index=0, id="a")), [("get_time", "{}")]),
    "arguments twice": (
        fragments(call("weather", BONN[:6], index=0, id="a"), call(None, BONN[6:], index=0), call(None, BONN, index=0)),
        [("weather", BONN)],
    ),
    "all arguments so far in each fragment": (
        fragments(call("weather", BONN[:6], index=0, id="a"), call(None, BONN[:9], index=0), call(None, BONN, index=0)),
        [("weather", BONN)],
    ),
    "an empty fragment at the end": (
        fragments(call("weather", BONN, index=0, id="a"), call("weather", "", index=0, id="a")),
        [("weather", BONN)],
    ),
    "an empty fragment without an id at the end": (
        fragments(call("weather", BONN, index=0, id="a"), call("weather", "", index=0)),
        [("weather", BONN)],
    ),
    "an empty object at the end": (
        fragments(call("weather", BONN, index=0, id="a"), call("weather", "{}", index=0, id="a")),
        [("weather", BONN)],
    ),
    "an empty fragment of another id at the end": (
        fragments(call("weather", BONN, index=0, id="a"), call(None, "", index=0, id="b")),
        [("weather", BONN)],
    ),
    "an empty fragment of another index at the end": (
        fragments(call("weather", BONN, index=0, id="a"), call("", "", index=1, id="")),
        [("weather", BONN)],
    ),
    "an empty object first": (
        fragments(call("weather", "{}", index=0, id="a"), call(None, BONN, index=0)),
        [("weather", BONN)],
    ),
    "whole calls in one delta": (
        [
            ("delta", {"tool_calls": [call("weather", BONN, id="a"), call("get_time", "{}", id="b")]}),
            ("finish", "stop"),
        ],
        [("weather", BONN), ("get_time", "{}")],
    ),
    "a call that is not a list": (
        [("delta", {"tool_calls": call("weather", BONN, id="a")}), ("finish", "stop")],
        [("weather", BONN)],
    ),
    "indexes that begin anywhere": (
        fragments(call("weather", BONN, index=7, id="a"), call("get_time", "{}", index=3, id="b")),
        [("weather", BONN), ("get_time", "{}")],
    ),
    "the legacy form": (
        [
            ("delta", {"function_call": {"name": "weather", "arguments": BONN[:5]}}),
            ("delta", {"function_call": {"arguments": BONN[5:]}}),
            ("finish", "function_call"),
            ("done",),
        ],
        [("weather", BONN)],
    ),
    "done without a finish": ([*calls("weather", BONN)[:-2], ("done",)], [("weather", BONN)]),
}


@pytest.mark.parametrize("form", CALLS)
async def test_a_tool_call_is_read_in_every_form(form: str, tmp_path: Path) -> None:
    script, expected = CALLS[form]
    found = await answer(tmp_path, script, tools=[TOOL, TIME])
    assert [(one["name"], one["arguments"]) for one in found.tool_calls] == expected
    assert found.finish == "tool_calls" and len({one["id"] for one in found.tool_calls}) == len(expected)
    assert all(one["id"] for one in found.tool_calls)


@pytest.mark.parametrize(
    "parts",
    [
        [call("weather", '{"city":', index=0, id="a")],
        [call("weather", '{"a":1}{"a":2}', index=0, id="a")],
        [call("weath", BONN, index=0, id="a")],
        [call("", BONN, index=0, id="a")],
    ],
)
async def test_an_incomplete_or_unknown_call_is_never_passed_on(parts: list[dict[str, Any]], tmp_path: Path) -> None:
    found = await answer(tmp_path, [("chunk", "Well "), *fragments(*parts)], tools=[TOOL])
    assert found.error is not None and found.error["code"] == "upstream_malformed" and not found.tool_calls


async def test_an_answer_ends_at_its_finish_on_an_open_connection(tmp_path: Path) -> None:
    hangs: list[Action] = [("chunk", "Goodbye."), *calls("endCall")[:-1], ("hang",)]
    async with scene(tmp_path, hangs) as (served, up):
        began = time.monotonic()
        found = read_stream((await ask(served, SPOKEN)).body)
        took = time.monotonic() - began
        await up.until(lambda: up.exchanges[0].left is not None)
    assert found.text == "Goodbye." and [one["name"] for one in found.tool_calls] == ["endCall"]
    assert found.error is None and took < 8, "the answer must not wait for the idle deadline"


async def test_usage_that_arrives_after_the_finish_is_read(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 3}
    script: list[Action] = [("chunk", "Hi."), ("finish", "stop"), ("sleep", 0.2), ("usage", usage), ("hang",)]
    found = await answer(tmp_path, script, stream_options={"include_usage": True})
    assert found.usage == {**usage, "total_tokens": 13}


@pytest.mark.parametrize(
    "end", [("rst",), ("fin",), ("raw", b"data: {broken"), ("raw", event({"error": {"code": 500}}))]
)
async def test_a_failure_after_the_finish_changes_nothing(end: Action, tmp_path: Path) -> None:
    found = await answer(tmp_path, [("chunk", "Hi."), ("finish", "stop"), ("sleep", 0.05), end])
    assert (found.text, found.finish, found.error) == ("Hi.", "stop", None)


async def test_done_alone_ends_an_answer_but_a_cut_stream_fails(tmp_path: Path) -> None:
    script: list[Action] = [("chunk", "See you."), ("done",)]
    for headers in (None, SPOKEN):
        found = await answer(tmp_path / str(bool(headers)), script, headers)
        assert (found.text, found.finish, found.error) == ("See you.", "stop", None)
    cut = await answer(tmp_path / "cut", [("chunk", "See ")])
    assert cut.error is not None and cut.error["code"] == "upstream_incomplete"


SKIPPED = {
    "empty data": b"data: \n\n",
    "no data": b"event: ping\n\n",
    "a ping with empty data": b"event: ping\ndata: \n\n",
    "a comment in data": b"data: : keep-alive\n\n",
    "text": b"data: processing\n\n",
    "a list": b"data: []\n\n",
    "a number": b"data: 7\n\n",
    "another object": b'data: {"type": "ping"}\n\n',
    "no choices": event({**HEAD, "choices": []}),
    "choices of a wrong type": event({**HEAD, "choices": [None]}),
    "a delta of a wrong type": event({**HEAD, "choices": [{"delta": "x"}]}),
    "content of a wrong type": event({**HEAD, "choices": [{"delta": {"content": 7}}]}),
    "a delta that is null": event({**HEAD, "choices": [{"delta": None}]}),
    "calls of a wrong type": event({**HEAD, "choices": [{"delta": {"tool_calls": "x"}}]}),
    "usage of a wrong type": event({**HEAD, "choices": [], "usage": "many"}),
    "half a usage": event({**HEAD, "choices": [], "usage": {"prompt_tokens": None}}),
    "an empty message": event({**HEAD, "choices": [], "message": ""}),
    "empty errors": event({**HEAD, "choices": [], "errors": [], "detail": {}}),
    "an error of number zero": event({"error_code": 0, "error_msg": "", "choices": []}),
    "a status": event({"type": "status", "message": "queued"}),
    "a refusal of a wrong type": event({**HEAD, "choices": [{"delta": {"refusal": ["No"], "content": ""}}]}),
    "an error that is null": event({**HEAD, "error": None, "choices": [{"delta": {"content": ""}}]}),
}


@pytest.mark.parametrize("odd", SKIPPED)
async def test_an_odd_event_is_skipped_and_ends_no_answer(
    odd: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw: Action = ("raw", SKIPPED[odd])
    found = await answer(
        tmp_path, [raw, ("chunk", "Hel"), raw, raw, ("chunk", "lo."), raw, ("finish", "stop"), ("done",)]
    )
    assert (found.text, found.finish, found.error) == ("Hello.", "stop", None)
    told = [record for record in caplog.records if record.getMessage() == "events of an upstream were skipped"]
    assert len(told) <= 1, "logged once per turn at most"


READ = {
    "a list of parts": event({"choices": [{"delta": {"content": [{"type": "text", "text": "Hello."}]}}]}),
    "a list of texts": event({"choices": [{"delta": {"content": ["Hel", "lo."]}}]}),
    "a part": event({"choices": [{"delta": {"content": {"type": "text", "text": "Hello."}}}]}),
    "a message": event({"choices": [{"message": {"role": "assistant", "content": "Hello."}}]}),
    "a legacy completion": event({"choices": [{"text": "Hello."}]}),
    "NaN next to it": b'data: {"choices":[{"delta":{"content":"Hello."},"logprobs":NaN}]}\n\n',
    "odd types next to it": event(
        {"id": 7, "created": "x", "model": None, "choices": [{"index": "0", "delta": {"role": 1, "content": "Hello."}}]}
    ),
}


@pytest.mark.parametrize("form", READ)
async def test_words_are_read_in_every_form(form: str, tmp_path: Path) -> None:
    found = await answer(tmp_path, [("raw", READ[form]), ("finish", "stop"), ("done",)])
    assert (found.text, found.error) == ("Hello.", None)


async def test_half_an_emoji_is_joined_or_replaced(tmp_path: Path) -> None:
    raw = rb'data: {"choices":[{"delta":{"content":"Hi \ud83d\ude00 \ud83d!"}}]}' + b"\n\n"
    found = await answer(tmp_path, [("raw", raw), ("finish", "stop"), ("done",)])
    assert found.text == "Hi \U0001f600 \ufffd!" and found.error is None


EMPTY = {
    "comments": b": ping\n\n",
    "empty data": b"data: \n\n",
    "pings": b'data: {"type": "ping"}\n\n',
    "no choices": event({**HEAD, "choices": []}),
    "no words": delta({"role": "assistant", "content": ""}),
    "nothing": delta({}),
}


@pytest.mark.parametrize("empty", EMPTY)
async def test_events_without_content_count_as_silence(empty: str, tmp_path: Path) -> None:
    pings: list[Action] = [("headers",), *[("raw", EMPTY[empty]), ("sleep", 0.1)] * 100]
    async with scene(tmp_path, pings, idle_seconds=0.5) as (served, up):
        reply = await ask(served)
        await up.until(lambda: up.exchanges[0].left is not None)
    assert (reply.status, reply.error["code"]) == (504, "upstream_stalled")


@pytest.mark.parametrize(
    "alive", [{"content": "a"}, {"reasoning_content": "hm"}, {"tool_calls": [call("weather", " ")]}]
)
async def test_words_thoughts_and_calls_do_not_count_as_silence(alive: dict[str, Any], tmp_path: Path) -> None:
    slow: list[Action] = [*[("delta", alive), ("sleep", 0.1)] * 15, ("chunk", "Hi."), ("finish", "stop"), ("done",)]
    async with scene(tmp_path, slow, idle_seconds=1.0) as (served, _):
        found = read_stream((await ask(served, tools=[TOOL])).body)
    assert found.error is None and found.text.endswith("Hi.")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_stream_is_read(encoding: str, tmp_path: Path) -> None:
    data = delta({"content": "Hello."}) + delta({}, "stop") + b"data: [DONE]\n\n"
    packed = gzip.compress(data) if encoding == "gzip" else zlib.compress(data)
    headers = {"content-type": "text/event-stream", "content-encoding": encoding}
    found = await answer(tmp_path, [("status", 200, headers, packed)])
    assert (found.text, found.finish) == ("Hello.", "stop")


async def test_a_completion_instead_of_a_stream_is_read(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    message = {"role": "assistant", "content": "Hello.", "tool_calls": [{"id": "a", **call("weather", BONN)}]}
    whole = {
        "object": "chat.completion",
        "choices": [{"message": message, "finish_reason": "tool_calls"}],
        "usage": usage,
    }
    for kind in ("application/json", "text/plain"):
        script: list[Action] = [("status", 200, {"content-type": kind}, json.dumps(whole).encode())]
        found = await answer(tmp_path / kind, script, tools=[TOOL], stream_options={"include_usage": True})
        assert (found.text, found.finish, found.usage) == ("Hello.", "tool_calls", usage)
        assert found.tool_calls[0]["arguments"] == BONN


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"choices":[{"message":{"content":"Hello."},"finish_reason":"stop","score":NaN}]}', "Hello."),
        (b'\xef\xbb\xbf{"choices":[{"message":{"content":"Hello."},"finish_reason":"stop"}]}', "Hello."),
        (b'{"choices":[{"message":{"content":"Hi \\ud83d"},"finish_reason":"stop"}]}', "Hi \ufffd"),
        (b'{"choices":[{"message":{"content":"H\xff"},"finish_reason":"stop"}]}', "H\ufffd"),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_odd_json_instead_of_a_stream_is_read(kind: str, data: bytes, text: str, tmp_path: Path) -> None:
    found = await answer(tmp_path, [("status", 200, {"content-type": kind}, data)])
    assert (found.text, found.finish, found.error) == (text, "stop", None)


async def test_a_refused_field_is_read_from_a_compressed_refusal(tmp_path: Path) -> None:
    error = gzip.compress(b'{"error": {"message": "stream_options is not supported", "param": "stream_options"}}')
    refusal: list[Action] = [("status", 400, {"content-encoding": "gzip"}, error)]
    async with scene(tmp_path, refusal, says("Hello.")) as (served, _):
        assert read_stream((await ask(served)).body).text == "Hello."


async def test_an_error_next_to_choices_gets_the_right_code(tmp_path: Path) -> None:
    """Read an error in the form that OpenRouter sends."""
    choice = {"delta": {"content": ""}, "finish_reason": "error"}
    for where, chunk in (
        ("top", {"error": {"code": 429}, "choices": [choice]}),
        ("in", {"choices": [{**choice, "error": {"code": 429}}]}),
    ):
        found = await answer(tmp_path / where, [("chunk", "Hel"), ("raw", event({**HEAD, **chunk}))])
        assert found.error is not None and found.error["code"] == "upstream_rate_limited"


def nested(levels: int) -> Any:
    """Return a list that is nested this deep."""
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


TOO_MUCH: dict[str, dict[str, Any]] = {
    "arguments": {"tool_calls": [call("weather", {"city": nested(300)}, index=0, id="a")]},
    "attached": {"content": "x", "reasoning_details": nested(300)},
    "sound": {"content": "x", "audio": {"id": "x", "data": "A"}},
    "a number": {"tool_calls": [call("weather", {"city": 10**40}, index=0, id="a")]},
}


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("name", TOO_MUCH)
async def test_content_that_cannot_be_passed_on_is_no_internal_error(
    name: str, streaming: bool, tmp_path: Path
) -> None:
    script: list[Action] = [("delta", TOO_MUCH[name]), *says("Hello.")]
    async with scene(tmp_path, script) as (served, _):
        reply = await ask(served, tools=[TOOL], stream=streaming)
    assert reply.status == 200 and b"Hello." in reply.body and b"internal_error" not in reply.body


async def test_usage_is_read_in_every_place_and_done_in_lower_case(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    for name, chunk in (
        ("choice", {"choices": [{**choice, "usage": usage}]}),
        ("groq", {"choices": [choice], "x_groq": {"usage": usage}}),
        ("zeros", {"choices": [choice], "usage": {**usage, "prompt_tokens": "3", "completion_tokens": "2"}}),
    ):
        zeros = event({**HEAD, "choices": [], "usage": dict.fromkeys(usage, 0)}) if name == "zeros" else b""
        script: list[Action] = [
            ("chunk", "Hi."),
            ("raw", event({**HEAD, **chunk}) + zeros),
            ("raw", b"data: [done]\n\n"),
        ]
        found = await answer(tmp_path / name, script, stream_options={"include_usage": True})
        assert (found.text, found.finish, found.usage) == ("Hi.", "stop", usage)
    bare = await answer(tmp_path / "bare", [("chunk", "Hi."), ("raw", b"data: [done]\n\n")])
    assert (bare.text, bare.error) == ("Hi.", None)


async def test_usage_details_of_a_wrong_type_are_left_out(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "prompt_tokens_details": "x"}
    script: list[Action] = [*says("Hello.")[:-1], ("usage", usage), ("done",)]
    async with scene(tmp_path, script) as (served, _):
        reply = await served.post("/v1/responses", {"input": "hi", "stream": False})
    assert reply.status == 200 and reply.json()["usage"]["total_tokens"] == 5


async def test_a_call_cut_by_the_length_limit_is_left_out(tmp_path: Path) -> None:
    cut = call("weather", '{"city":', index=0, id="a")
    for name, script in (
        ("words", [("chunk", "Let me see."), *fragments(cut, finish="length")]),
        ("another", fragments(call("get_time", "{}", index=1, id="b"), cut, finish="length")),
    ):
        found = await answer(tmp_path / name, script, tools=[TOOL, TIME])
        assert [one["name"] for one in found.tool_calls] == (["get_time"] if name == "another" else [])
        assert found.finish == "length" and found.error is None
    async with scene(tmp_path / "alone", fragments(cut, finish="length")) as (served, _):
        assert (await ask(served, tools=[TOOL])).error["code"] == "upstream_empty"


async def test_an_event_stream_with_a_wrong_content_type_is_read(tmp_path: Path) -> None:
    found = await answer(tmp_path, [("type", "application/json"), *says("Hello.")])
    assert found.text == "Hello."


@pytest.mark.parametrize(
    ("status", "error", "told", "code"),
    [
        (200, {"error": {"code": 429}}, 429, "upstream_rate_limited"),
        (200, {"error": {"code": "429"}}, 429, "upstream_rate_limited"),
        (200, {"error": {"code": "rate_limit_exceeded"}}, 429, "upstream_rate_limited"),
        (200, {"type": "error", "error": {"type": "overloaded_error"}}, 503, "upstream_unavailable"),
        (200, [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], 429, "upstream_rate_limited"),
        (200, {"object": "error", "message": "no", "code": 404}, 404, "upstream_not_found"),
        (200, {"error": "something"}, 502, "upstream_failed"),
        (200, {"detail": "Not Found"}, 502, "upstream_failed"),
        (200, {"error": {"code": 429.0}}, 429, "upstream_rate_limited"),
        (200, {"error": {"code": [429]}}, 429, "upstream_rate_limited"),
        (200, {"error": [{"status_code": 429}]}, 429, "upstream_rate_limited"),
        (200, {"errors": [{"code": 429}]}, 429, "upstream_rate_limited"),
        (200, {"detail": {"error": {"code": 429}}}, 429, "upstream_rate_limited"),
        (200, {"error": {"code": "9" * 5000}}, 502, "upstream_failed"),
        (200, [{"error": {"code": 429}}, {"error": {"code": 429}}], 429, "upstream_rate_limited"),
        (408, {}, 503, "upstream_unavailable"),
        (498, {}, 503, "upstream_unavailable"),
        (520, {}, 502, "upstream_failed"),
        (521, {}, 503, "upstream_unavailable"),
        (522, {}, 504, "upstream_timeout"),
        (524, {}, 504, "upstream_timeout"),
        (529, {"type": "error", "error": {"type": "overloaded_error"}}, 503, "upstream_unavailable"),
        (599, {}, 502, "upstream_failed"),
    ],
)
async def test_a_failure_gets_the_right_status_and_code(
    status: int, error: Any, told: int, code: str, tmp_path: Path
) -> None:
    refusal: list[Action] = [("status", status, {"content-type": "application/json"}, json.dumps(error).encode())]
    async with scene(tmp_path, *[refusal] * 3) as (served, _):
        reply = await ask(served)
    assert (reply.status, reply.error["code"]) == (told, code)


@pytest.mark.parametrize("status", [408, 498, 500, 502, 503, 520, 521, 523, 529])
async def test_a_temporary_failure_is_retried(status: int, tmp_path: Path) -> None:
    async with scene(tmp_path, [("status", status, {}, b"{}")], says("Hello.")) as (served, up):
        found = read_stream((await ask(served)).body)
    assert found.text == "Hello." and len(up.exchanges) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 501, 525])
async def test_a_permanent_failure_is_not_retried(status: int, tmp_path: Path) -> None:
    async with scene(tmp_path, [("status", status, {}, b"{}")]) as (served, up):
        assert (await ask(served)).status >= 400
    assert len(up.exchanges) == 1


async def test_an_overload_sent_with_status_200_is_retried(tmp_path: Path) -> None:
    error = json.dumps({"error": {"type": "overloaded_error"}}).encode()
    first: list[Action] = [("status", 200, {"content-type": "application/json"}, error)]
    async with scene(tmp_path, first, says("Hello.")) as (served, _):
        assert read_stream((await ask(served)).body).text == "Hello."


async def test_a_web_page_is_not_an_answer(tmp_path: Path) -> None:
    page: list[Action] = [("status", 200, {"content-type": "text/html"}, b"\n <!doctype html><title>Sign in</title>")]
    async with scene(tmp_path, page) as (served, _):
        reply = await ask(served)
    assert (reply.status, reply.error["code"]) == (502, "upstream_malformed") and "web page" in reply.error["message"]


async def test_the_log_names_a_refused_field_but_no_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    error = {
        "error": {"message": "Unsupported value: secret words", "param": "temperature", "code": "unsupported_value"}
    }
    async with scene(tmp_path, [("status", 400, {}, json.dumps(error).encode())]) as (served, _):
        reply = await ask(served, temperature=0.5)
    told = [record for record in caplog.records if record.getMessage() == "an upstream refused a request"]
    assert reply.status == 400 and [vars(record)["fields"] for record in told] == [["temperature"]]
    assert "secret words" not in caplog.text and b"secret" not in reply.body


async def test_max_tokens_is_renamed_if_the_upstream_refuses_it(tmp_path: Path) -> None:
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    error = {"error": {"message": message, "param": "max_tokens", "code": "unsupported_parameter"}}
    async with scene(tmp_path, [("status", 400, {}, json.dumps(error).encode())]) as (served, up):
        replies = [await ask(served, max_tokens=50) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 200] and len(up.exchanges) == 3
    assert [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in up.bodies] == [
        (50, None), (None, 50), (None, 50),
    ]  # fmt: skip


async def test_no_client_can_switch_usage_off_for_others(tmp_path: Path) -> None:
    """Use an upstream that refuses the first two requests and names a field each time."""
    refusal: list[Action] = [
        ("status", 400, {}, b'{"error": {"message": "stream_options.x is unknown", "param": "x"}}')
    ]
    usage: list[Action] = [
        ("chunk", "Hi."),
        ("finish", "stop"),
        ("usage", {"prompt_tokens": 6000, "completion_tokens": 1}),
    ]
    async with scene(tmp_path, refusal, refusal, usage) as (served, up):
        first = await ask(served, stream_options={"x": 1})
        second = read_stream((await ask(served, stream_options={"include_usage": True})).body)
    assert first.status == 400 and second.usage is not None and second.usage["prompt_tokens"] == 6000
    assert all(body.get("stream_options", {"include_usage": True}) == {"include_usage": True} for body in up.bodies)


async def test_usage_is_estimated_if_the_upstream_does_not_count(tmp_path: Path) -> None:
    refusal: list[Action] = [("status", 422, {}, b'{"detail": "stream_options: extra fields not permitted"}')]
    async with scene(tmp_path, refusal) as (served, up):
        streamed = read_stream((await ask(served, stream_options={"include_usage": True})).body)
        whole = (await ask(served, stream=False)).json()
    assert ["stream_options" in body for body in up.bodies] == [True, False, False]
    assert streamed.usage is not None and streamed.usage["estimated"] is True and whole["usage"]["estimated"] is True
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"] > 0


async def test_the_last_usage_of_a_pass_is_the_one_that_counts(tmp_path: Path) -> None:
    running: list[Action] = []
    for at, word in enumerate(("One ", "two ", "three."), 1):
        running += [("chunk", word), ("usage", {"prompt_tokens": 10, "completion_tokens": at, "total_tokens": 0})]
    running += [("finish", "stop"), ("usage", {"prompt_tokens": 10, "completion_tokens": 3}), ("done",)]
    async with scene(tmp_path, running) as (served, _):
        found = read_stream((await ask(served, stream_options={"include_usage": True})).body)
        await served.state.ledger.write()
        rows = await _rows(served)
    assert found.usage == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    assert [(row.passes, row.prompt_tokens, row.completion_tokens, row.estimated) for row in rows] == [
        (1, 10, 3, False)
    ]


async def _rows(served: Served) -> list[Any]:
    from sqlalchemy import select

    from dialgraph.storage.tables.usage import USAGE

    async with served.state.services.database.reading() as connection:
        return list((await connection.execute(select(USAGE))).all())


UNSAID = {
    "a thought without an end": "<think>They want a price. ",
    "only a thought": "<think>x</think>",
    "an emoji": "\U0001f44d",
    "Kimi's thought": "◁think▷hm◁/think▷",
    "a call": '<tool_call>{"name": "weather", "arguments": {}}</tool_call>',
    "a function": '<function=weather>{"city": "Bonn"}</function>',
    "Mistral's calls": '[TOOL_CALLS] [{"name": "weather", "arguments": {}}]',
    "DeepSeek's calls": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather<｜tool▁calls▁end｜>",
    "Llama's call": '<|python_tag|>{"name": "weather"}<|eom_id|>',
    "Magistral's thought": "[THINK]secret[/THINK]",
    "Seed's thought": "<seed:think>secret</seed:think>",
    "Cohere's thought": "<|START_THINKING|>secret<|END_THINKING|>",
    "a thought with another closing tag": "<think>secret</thinking>",
    "Gemma's call": "<start_function_call>call:weather{}<end_function_call>",
    "InternLM's call": '<|action_start|><|plugin|>{"name": "weather"}<|action_end|>',
    "gpt-oss' thoughts": "<|channel|>analysis<|message|>secret plan<|end|>",
    "gpt-oss' call": '<|channel|>commentary to=functions.weather<|constrain|>json<|message|>{"city":"Bonn"}<|call|>',
}


@pytest.mark.parametrize("unsaid", UNSAID)
@pytest.mark.parametrize("cut", [1, 3, 1000])
async def test_text_not_meant_for_the_caller_is_not_spoken(unsaid: str, cut: int, tmp_path: Path) -> None:
    text = UNSAID[unsaid]
    pieces: list[Action] = [("chunk", text[at : at + cut]) for at in range(0, len(text), cut)]
    ends: list[Action] = [("finish", "stop"), ("done",)]
    spoken = [] if "without an end" in unsaid or "Mistral" in unsaid else [("chunk", "Hello.")]
    if "gpt-oss" in unsaid and spoken:
        spoken = [("chunk", "<|start|>assistant<|channel|>final<|message|>Hello.<|return|>")]
    async with scene(tmp_path, [*pieces, *spoken, *ends], [*pieces, *ends], [*pieces, *ends]) as (served, _):
        both = read_stream((await ask(served, VOICE)).body) if spoken else None
        failed = await ask(served, VOICE)
        apology = read_stream((await ask(served, SPOKEN)).body)
    assert both is None or both.text.strip() == "Hello."
    # If nothing is left to say, the answer is empty, which is an error and not silence.
    if spoken:
        assert (failed.status, failed.error["code"]) == (502, "upstream_empty")
    assert apology.text.startswith(FALLBACK) and apology.finish == "stop"


@pytest.mark.parametrize(
    "text",
    [
        "Try a <thought experiment> now. It helps.", "Fill in <reasoning behind it> here.", "The <invoke fee> is 5.",
        "Is x<y? Yes. And is z>w? No.", "If a<b and c>d then stop.", "A < b, <3, 2 <think, [x] and I think.",
    ],
)  # fmt: skip
@pytest.mark.parametrize("cut", [1, 4, 1000])
async def test_ordinary_text_that_resembles_a_tag_loses_no_word(text: str, cut: int, tmp_path: Path) -> None:
    found = await answer(tmp_path, says(*(text[at : at + cut] for at in range(0, len(text), cut))), VOICE)
    words = [word.strip("<>.?,") for word in text.split()]
    assert not [word for word in words if word not in found.text], found.text


async def test_a_quoted_tag_hides_no_text(tmp_path: Path) -> None:
    text = "The `<think>` tag starts a thought. Then it goes on."
    for cut in (1, 5, 1000):
        pieces = [text[at : at + cut] for at in range(0, len(text), cut)]
        assert (await answer(tmp_path / str(cut), says(*pieces), VOICE)).text.endswith(
            "tag starts a thought. Then it goes on."
        )


async def test_ordinary_text_is_held_back_by_25_characters_at_most(tmp_path: Path) -> None:
    from dialgraph.language.speakable import Speakable

    for text in ("Is 3 < 4? Yes, [really] it <b>is</b>. ", "The tag <thin line> means <nothing at all here>. "):
        stage, held = Speakable(), 0
        for character in text * 5:
            said = stage.push(character)
            held = 0 if said else held + 1
            assert held <= 25


async def test_a_model_can_be_set_to_begin_inside_a_thought(tmp_path: Path) -> None:
    script = says("They want ", "a price.</th", "ink>\n\nIt is ", "10 euros.")
    async with scene(tmp_path, script, says("No thought."), thinks_first=True) as (served, _):
        found, plain = [read_stream((await ask(served, VOICE)).body) for _ in range(2)]
    assert found.text == "It is 10 euros." and plain.text == "No thought."


async def test_a_thought_without_an_end_is_not_spoken(tmp_path: Path) -> None:
    cut: list[Action] = [("chunk", "They want a price."), ("finish", "length"), ("done",)]
    called: list[Action] = [("chunk", "I should call."), *fragments(call("weather", BONN, index=0, id="a"))]
    async with scene(tmp_path, cut, called, says("secret</THINK >Hi."), thinks_first=True) as (served, _):
        failed = await ask(served, VOICE)
        found = read_stream((await ask(served, VOICE, tools=[TOOL])).body)
        loud = read_stream((await ask(served, VOICE)).body)
    assert failed.error["code"] == "upstream_empty"
    assert found.text == "" and [one["name"] for one in found.tool_calls] == ["weather"] and loud.text == "Hi."


async def test_turn_markers_pass_only_in_the_pipecat_profile(tmp_path: Path) -> None:
    for marker in "✓○◐":
        script = says(marker, " Sure ✓.")
        for profile, text in (("pipecat", f"{marker} Sure ."), ("livekit", None)):
            found = await answer(tmp_path / f"{ord(marker)}{profile}", script, {"x-dialgraph-profile": profile})
            assert text is None or found.text.replace("  ", " ") == text
    alone = await answer(tmp_path / "alone", says("○"), {"x-dialgraph-profile": "pipecat"})
    assert (alone.text, alone.error) == ("○", None)


async def test_a_filtered_answer_is_a_finish_or_the_fallback_phrase(tmp_path: Path) -> None:
    script: list[Action] = [("delta", {"role": "assistant"}), ("finish", "content_filter"), ("done",)]
    client = await answer(tmp_path / "client", script)
    caller = await answer(tmp_path / "caller", script, SPOKEN)
    assert (client.text, client.finish, client.error) == ("", "content_filter", None)
    assert caller.text.startswith(FALLBACK) and caller.finish == "stop"


async def test_a_refusal_is_a_field_for_clients_and_words_for_callers(tmp_path: Path) -> None:
    script: list[Action] = [
        ("delta", {"refusal": "I cannot "}),
        ("delta", {"refusal": "help."}),
        ("finish", "stop"),
        ("done",),
    ]
    async with scene(tmp_path, script, script) as (served, _):
        client = (await ask(served, stream=False)).json()["choices"][0]["message"]
        caller = read_stream((await ask(served, VOICE)).body)
    assert (client["content"] or None, client["refusal"]) == (
        None,
        "I cannot help.",
    ) and caller.text == "I cannot help."


async def test_reasoning_alone_is_an_empty_answer(tmp_path: Path) -> None:
    script: list[Action] = [("delta", {"reasoning_content": "hm"}), ("finish", "stop"), ("done",)]
    async with scene(tmp_path, script) as (served, _):
        reply = await ask(served, stream=False)
    assert (reply.status, reply.error["code"]) == (502, "upstream_empty")


SIGNED = {"extra_content": {"google": {"thought_signature": "s1gn"}}}


async def test_provider_fields_of_a_call_reach_clients_but_no_voice(tmp_path: Path) -> None:
    script = fragments({**call("weather", BONN, index=0, id="a"), **SIGNED})
    async with scene(tmp_path, script, script, script) as (served, _):
        streamed = await ask(served, tools=[TOOL])
        whole = (await ask(served, tools=[TOOL], stream=False)).json()
        voiced = await ask(served, VOICE, tools=[TOOL])
    assert b"s1gn" in streamed.body and b"s1gn" not in voiced.body
    assert whole["choices"][0]["message"]["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]


async def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: 21 degrees"


async def test_provider_fields_are_sent_back_with_the_tool_result(tmp_path: Path) -> None:
    spec = Graph(
        name="agent",
        steps=(Step("call_model", then={"answered": END, "tools": "run_tools"}), Step("run_tools", then="call_model")),
    )
    thinking: list[Action] = [
        ("delta", {"reasoning_content": "They ask "}),
        ("delta", {"reasoning_content": "for it."}),
    ]
    asked = fragments({**call("get_weather", {"city": "Bonn"}, index=0, id=""), **SIGNED})
    async with upstream([*thinking, *asked], says("21 degrees.")) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            add_graphs(served.app, compiled=[(spec, compile_graph(spec, tools=[get_weather]))])
            reply = await served.ask("Weather?", "/agent/chat/completions")
    assert read_stream(reply.body).text == "21 degrees." and b"s1gn" not in reply.body
    *_, made, result = up.bodies[1]["messages"]
    assert made["reasoning_content"] == "They ask for it."
    assert made["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]
    assert result["content"] == "Bonn: 21 degrees" and result["tool_call_id"] == made["tool_calls"][0]["id"]


async def test_odd_streams_give_the_intended_words_and_calls(tmp_path: Path) -> None:
    assert await odd_streams.try_out(tmp_path, range(300)) == 300


@pytest.mark.soak
async def test_a_hundred_thousand_odd_streams_give_the_intended_output(tmp_path: Path) -> None:
    assert await odd_streams.try_out(tmp_path, range(1_000, 101_000)) == 100_000
