"""Faults of an upstream, each over TCP: what the client gets, and what the upstream sees."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from dialgraph.models.relay.relay import MAX_ATTEMPTS
from tests.support.serving import Reply, Served, serving
from tests.support.upstream import Action, Upstream, calls, delta, event, says, upstream
from tests.support.wire import Answer, read_stream

CANARY = "sk-canary-5f1d8a0c77"
FAST = {"connect_seconds": 0.5, "first_byte_seconds": 0.6, "idle_seconds": 0.4, "total_seconds": 1.5}


@asynccontextmanager
async def relaying(
    tmp_path: Path, *scripts: list[Action], deadlines: dict[str, float] | None = None, **settings: Any
) -> AsyncIterator[tuple[Served, Upstream]]:
    """Start our server in front of a scripted upstream."""
    async with upstream(*scripts) as up:
        main = {"url": up.url, "model": "up", "api_key": CANARY, **(deadlines or FAST)}
        async with serving(tmp_path, models={"main": main}, **settings) as served:
            yield served, up


def framed(reply: Reply) -> Answer:
    """Check that a stream ended with an error frame that shows no secret, and return its answer."""
    assert reply.status == 200
    assert CANARY.encode() not in reply.body
    answer = read_stream(reply.body)
    assert answer.error is not None, answer
    return answer


def refused(reply: Reply, status: int, code: str) -> dict[str, Any]:
    """Check that the reply is an error with this status and code and shows no secret. Return the error."""
    assert (reply.status, reply.error["code"]) == (status, code), reply.body
    assert reply.headers["content-type"] == "application/json"
    assert CANARY.encode() not in reply.body
    return reply.error


async def test_the_answer_of_a_healthy_upstream_is_passed_on(tmp_path: Path) -> None:
    async with relaying(tmp_path, says("Hel", "lo 你好")) as (served, up):
        answer = read_stream((await served.ask()).body)
    assert (answer.text, answer.finish) == ("Hello 你好", "stop")
    assert up.bodies[0]["stream"] is True and up.bodies[0]["model"] == "up"
    assert up.exchanges[0].headers["authorization"] == f"Bearer {CANARY}"


async def test_a_refused_connection_is_502(tmp_path: Path) -> None:
    async with upstream() as up:
        url = up.url
    async with serving(tmp_path, models={"main": {"url": url, **FAST}}) as served:
        refused(await served.ask(), 502, "upstream_unreachable")


async def test_a_connection_that_is_reset_immediately_is_502(tmp_path: Path) -> None:
    async with relaying(tmp_path, *[[("rst",)]] * MAX_ATTEMPTS) as (served, up):
        refused(await served.ask(), 502, "upstream_unreachable")
    assert len(up.exchanges) == MAX_ATTEMPTS


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (400, 400, "upstream_rejected"),
        (401, 502, "upstream_unauthorized"),
        (403, 502, "upstream_unauthorized"),
        (404, 404, "upstream_not_found"),
        (422, 400, "upstream_rejected"),
        (429, 429, "upstream_rate_limited"),
        (500, 502, "upstream_failed"),
        (503, 503, "upstream_unavailable"),
    ],
)
async def test_a_status_is_mapped_and_the_body_stays_secret(
    tmp_path: Path, status: int, told: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    refusal: list[Action] = [("status", status, {"Retry-After": "7"}, f'{{"error":"bad key {CANARY}"}}'.encode())]
    async with relaying(tmp_path, *[refusal] * MAX_ATTEMPTS) as (served, _):
        reply = await served.ask()
    refused(reply, told, code)
    assert reply.headers["retry-after"] == "7"
    assert CANARY not in caplog.text


async def test_silence_before_the_headers_is_504_at_the_deadline(tmp_path: Path) -> None:
    async with relaying(tmp_path, [("hang",)]) as (served, up):
        began = time.monotonic()
        reply = await served.ask()
        told = time.monotonic()
        await up.until(lambda: up.exchanges[0].left is not None)
    refused(reply, 504, "upstream_timeout")
    assert told - began >= FAST["first_byte_seconds"]
    assert up.exchanges[0].left is not None and up.exchanges[0].left - told < 0.05


async def test_silence_after_the_headers_ends_at_the_idle_deadline(tmp_path: Path) -> None:
    async with relaying(tmp_path, [("headers",), ("hang",)], keepalive_ms=100) as (served, _):
        began = time.monotonic()
        answer = framed(await served.ask())
    assert answer.error is not None and answer.error["code"] == "upstream_stalled"
    assert answer.comments >= 2
    assert time.monotonic() - began >= FAST["idle_seconds"]


@pytest.mark.parametrize("count", [0, 1, 7])
async def test_silence_after_some_chunks_is_an_error_at_the_idle_deadline(tmp_path: Path, count: int) -> None:
    script: list[Action] = [("headers",), *[("chunk", f"{at} ") for at in range(count)], ("hang",)]
    async with relaying(tmp_path, script) as (served, _):
        reply = await served.ask()
    if count:
        answer = framed(reply)
        assert answer.text == "".join(f"{at} " for at in range(count))
    else:
        refused(reply, 504, "upstream_stalled")


async def test_a_trickle_of_bytes_ends_at_the_total_deadline(tmp_path: Path) -> None:
    body = delta({"content": "never ends"})
    script: list[Action] = [
        ("chunk", "begin "),
        *[part for byte in body for part in (("raw", bytes([byte])), ("sleep", 0.1))],
    ]
    async with relaying(tmp_path, script) as (served, _):
        began = time.monotonic()
        answer = framed(await served.ask())
    assert answer.error is not None and answer.error["code"] == "upstream_timeout"
    assert FAST["total_seconds"] <= time.monotonic() - began < FAST["total_seconds"] + 1


@pytest.mark.parametrize("words", [["half "], []])
async def test_an_end_without_a_finish_is_an_error(tmp_path: Path, words: list[str]) -> None:
    async with relaying(tmp_path, [("headers",), *[("chunk", word) for word in words]]) as (served, _):
        reply = await served.ask()
    if words:
        answer = framed(reply)
        assert answer.text == "half " and answer.error is not None and answer.error["code"] == "upstream_incomplete"
    else:
        refused(reply, 502, "upstream_incomplete")


@pytest.mark.parametrize("cut", ["inside a character", "inside the JSON", "inside a line end"])
@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_a_cut_stream_is_an_error_frame_without_broken_characters(tmp_path: Path, cut: str, how: str) -> None:
    whole = delta({"content": "你"}).replace(b"\n", b"\r\n")
    at = {
        "inside a character": whole.index("你".encode()) + 1,
        "inside the JSON": 30,
        "inside a line end": len(whole) - 3,
    }[cut]
    async with relaying(
        tmp_path, [("chunk", "good "), ("sleep", 0.05), ("raw", whole[:at]), ("sleep", 0.05), (how,)]
    ) as (
        served,
        _,
    ):
        answer = framed(await served.ask())
    assert answer.text in ("good ", "good 你")
    assert answer.error is not None and answer.error["code"] in ("upstream_incomplete", "upstream_malformed")
    assert "Traceback" not in answer.error["message"] and "aiohttp" not in answer.error["message"]


async def test_an_end_without_done_is_a_success_and_done_is_added(tmp_path: Path) -> None:
    async with relaying(tmp_path, [("chunk", "fine"), ("finish", "stop")]) as (served, _):
        answer = read_stream((await served.ask()).body)
    assert (answer.text, answer.finish, answer.error) == ("fine", "stop", None)


async def test_usage_after_tool_calls_is_forwarded_and_changes_no_finish(tmp_path: Path) -> None:
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    script = [*calls("weather", '{"city":"Bonn"}')[:-1], ("usage", usage), ("done",)]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    async with relaying(tmp_path, script, script) as (served, up):
        asked = read_stream((await served.ask(tools=tools, stream_options={"include_usage": True})).body)
        unasked = read_stream((await served.ask(tools=tools)).body)
    assert asked.finish == unasked.finish == "tool_calls"
    assert asked.tool_calls[0]["name"] == "weather" and asked.tool_calls[0]["arguments"] == '{"city":"Bonn"}'
    assert asked.usage == usage
    assert unasked.usage is None
    assert up.bodies[0]["stream_options"] == {"include_usage": True}


async def test_any_framing_gives_the_same_bytes(tmp_path: Path) -> None:
    chunks = [delta({"content": word}) for word in ("one ", "two ", "三")] + [delta({}, "stop"), b"data: [DONE]\n\n"]
    plain = b"".join(chunks)
    split = plain.replace(b'"created"', b'"created"', 1).replace(b', "created"', b',\ndata: "created"')
    framings: dict[str, list[bytes]] = {
        "plain": [plain],
        "no space": [plain.replace(b"data: ", b"data:")],
        "CRLF": [plain.replace(b"\n", b"\r\n")],
        "CR": [plain.replace(b"\n", b"\r")],
        "BOM": [b"\xef\xbb\xbf" + plain],
        "comments": [plain.replace(b"data: ", b": note\nretry: 5\nid: 3\nevent: message\ndata: ")],
        "multi-line": [split],
        "1-byte slices": [bytes([byte]) for byte in plain],
        "no last line end": [plain[:-2]],
    }
    seen = {}
    for name, slices in framings.items():
        async with relaying(tmp_path, [("raw", piece) for piece in slices]) as (served, _):
            body = (await served.ask()).body
        assert read_stream(body).text == "one two 三", name
        # Id and time differ from stream to stream. All other bytes must be the same.
        seen[name] = re.sub(rb'"id":"chatcmpl-[0-9a-f]{32}"|"created":\d+', b"", body)
    assert all(body == seen["plain"] for body in seen.values()), [name for name in seen if seen[name] != seen["plain"]]


@pytest.mark.parametrize(
    ("error", "status"),
    [({"message": CANARY}, 502), ({"message": "slow down", "code": 429}, 429), ("just text", 502)],
)
async def test_an_error_as_the_first_event_is_a_status(tmp_path: Path, error: object, status: int) -> None:
    async with relaying(tmp_path, [("raw", event({"error": error}))]) as (served, _):
        reply = await served.ask()
    assert reply.status == status and b"[DONE]" not in reply.body
    assert CANARY.encode() not in reply.body and reply.error["message"]


async def test_an_error_after_words_is_an_error_frame(tmp_path: Path) -> None:
    async with relaying(tmp_path, [("chunk", "so "), ("raw", event({"error": {"message": CANARY}}))]) as (served, _):
        answer = framed(await served.ask())
    assert answer.text == "so "


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ([("raw", b"data: {broken\n\n")], 502),
        ([("raw", b"<html><body>Bad gateway</body></html>")], 502),
        ([("status", 200, {"content-type": "text/html"}, b"<html></html>")], 502),
        ([("status", 200, {}, b"")], 502),
        ([("raw", b'data: "text"\n\n')], 502),
        ([("raw", b'data: {"choices":[{"delta":{"content":7}}]}\n\n')], 502),
    ],
)
async def test_a_response_that_is_not_an_answer_is_502(tmp_path: Path, script: list[Action], status: int) -> None:
    async with relaying(tmp_path, script) as (served, _):
        reply = await served.ask()
    assert reply.status == status and reply.error["code"] in ("upstream_malformed", "upstream_incomplete")


async def test_two_broken_events_are_skipped_but_three_are_an_error(tmp_path: Path) -> None:
    broken: Action = ("raw", b"data: {broken\n\n")
    one: list[Action] = [("chunk", "a"), ("chunk", "b"), broken, broken, *says("c")]
    three: list[Action] = [("chunk", "a"), ("chunk", "b"), *[broken] * 3, *says("c")]
    async with relaying(tmp_path, one, three) as (served, _):
        skipped = read_stream((await served.ask()).body)
        answer = framed(await served.ask())
    assert (skipped.text, skipped.finish) == ("abc", "stop")
    assert answer.text == "ab" and answer.error is not None and answer.error["code"] == "upstream_malformed"


async def test_a_line_of_fifty_megabytes_is_cut_short(tmp_path: Path) -> None:
    block = b"x" * 1_000_000
    script: list[Action] = [("chunk", "a"), ("raw", b'data: {"x":"'), *[("raw", block)] * 50]
    async with relaying(tmp_path, script, deadlines={"total_seconds": 30.0}) as (served, up):
        await served.ask()
        before = psutil.Process().memory_info().rss
        up.scripts.append(script)
        answer = framed(await served.ask())
        after = psutil.Process().memory_info().rss
    assert answer.text == "a"
    assert after - before <= 8 * 2**20


@pytest.mark.long
async def test_a_million_tiny_chunks_pass_in_constant_memory(tmp_path: Path) -> None:
    count = 1_000_000
    batch = delta({"content": "x"}) * 1000
    script: list[Action] = [*[("raw", batch)] * (count // 1000), ("finish", "stop"), ("done",)]
    async with relaying(tmp_path, script, deadlines={"total_seconds": 60.0}) as (served, _):
        connection = await served.connect()
        await connection.send(
            served.request("/chat/completions", {"messages": [{"role": "user", "content": "x"}], "stream": True})
        )
        status, _ = await connection.head()
        before = psutil.Process().memory_info().rss
        words, peak = 0, before
        while piece := await connection.chunk():
            words += piece.count(b'"content":"x"')
            peak = max(peak, psutil.Process().memory_info().rss) if words % 1000 == 0 else peak
    assert (status, words) == (200, count)
    assert peak - before <= 8 * 2**20


@pytest.mark.parametrize(
    ("call", "legal"),
    [
        ({"index": 10**9, "id": "a", "function": {"name": "f", "arguments": "{}"}}, True),
        ({"index": -1, "id": "a", "function": {"name": "f", "arguments": "{}"}}, True),
        ({"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"open":'}}, False),
        ({"index": 0, "id": "a", "function": {"arguments": "{}"}}, False),
        ({"index": 0, "id": "a", "function": {"name": "f"}}, True),
        ({"id": "a", "function": {"name": "f", "arguments": "{}"}}, True),
        ({"index": 0, "function": {"name": "f", "arguments": "{}"}}, True),
    ],
)
async def test_tool_calls_are_normalised_or_an_error(tmp_path: Path, call: dict[str, Any], legal: bool) -> None:
    script: list[Action] = [("chunk", "x "), ("delta", {"tool_calls": [call]}), ("finish", "tool_calls"), ("done",)]
    async with relaying(tmp_path, script) as (served, _):
        reply = await served.ask()
    if legal:
        answer = read_stream(reply.body)
        assert [(one["name"], one["arguments"]) for one in answer.tool_calls] == [("f", "{}")]
        assert answer.tool_calls[0]["id"]
    else:
        framed(reply)


async def test_two_interleaved_calls_with_one_id_get_two_ids(tmp_path: Path) -> None:
    both = [{"index": at, "id": "same", "function": {"name": f"f{at}", "arguments": '{"at":'}} for at in (3, 7)]
    rest = [{"index": at, "function": {"arguments": f"{at}}}"}} for at in (7, 3)]
    script: list[Action] = [("delta", {"tool_calls": both}), ("delta", {"tool_calls": rest}), ("finish", "stop")]
    async with relaying(tmp_path, script) as (served, _):
        answer = read_stream((await served.ask()).body)
    assert [call["arguments"] for call in answer.tool_calls] == ['{"at":3}', '{"at":7}']
    assert [call["name"] for call in answer.tool_calls] == ["f3", "f7"]
    assert len({call["id"] for call in answer.tool_calls}) == 2
    assert answer.finish == "tool_calls"


async def test_two_failures_before_the_first_byte_are_retried(tmp_path: Path) -> None:
    async with relaying(tmp_path, [("status", 500, {}, b"")], [("rst",)], says("third time")) as (served, up):
        answer = read_stream((await served.ask()).body)
    assert answer.text == "third time" and len(up.exchanges) == 3


async def test_nothing_is_retried_after_the_first_word(tmp_path: Path) -> None:
    async with relaying(
        tmp_path, [("chunk", "Your balance is "), ("sleep", 0.05), ("rst",)], says("Your balance is 12.")
    ) as (served, up):
        answer = framed(await served.ask())
    assert answer.text == "Your balance is " and len(up.exchanges) == 1


async def test_an_upstream_that_fails_is_asked_three_times_at_most(tmp_path: Path) -> None:
    async with relaying(tmp_path, *[[("status", 503, {}, b"")]] * 9) as (served, up):
        reply = await served.ask()
    refused(reply, 503, "upstream_unavailable")
    assert len(up.exchanges) == MAX_ATTEMPTS
    assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("finish", ["stop", "tool_calls"])
async def test_an_answer_without_a_word_is_an_error(tmp_path: Path, finish: str) -> None:
    async with relaying(tmp_path, [("delta", {"role": "assistant"}), ("finish", finish), ("done",)]) as (served, _):
        refused(await served.ask(), 502, "upstream_empty")


async def test_redirects_are_not_followed_and_the_key_is_not_sent_there(tmp_path: Path) -> None:
    async with upstream() as elsewhere:
        moved = [("status", 307, {"location": f"{elsewhere.url}/chat/completions"}, b"")]
        async with relaying(tmp_path, *[moved] * 3) as (served, _):
            reply = await served.ask()
        assert reply.status == 502
        assert not elsewhere.exchanges


async def test_connections_are_reused_from_turn_to_turn(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (served, up):
        warm = up.connections
        for _ in range(10):
            read_stream((await served.ask()).body)
        await asyncio.sleep(0)
    assert warm >= 1 and up.connections == warm


@pytest.mark.parametrize("audio", ["text", ["x"], {"transcript": 5}, {"data": {}}])
@pytest.mark.parametrize("streams", [True, False])
async def test_invalid_sound_is_skipped(tmp_path: Path, audio: object, streams: bool) -> None:
    script: list[Action] = [("delta", {"audio": audio}), *says("x")]
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}) as served:
        reply = await served.ask(stream=streams)
    assert reply.status == 200 and b'"content":"x"' in reply.body and b"audio" not in reply.body


async def test_an_empty_transcript_is_accepted(tmp_path: Path) -> None:
    script: list[Action] = [("delta", {"audio": {"id": "a", "transcript": None, "data": ""}}), *says("x")]
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}) as served:
        reply = await served.ask(stream=False)
    assert reply.status == 200 and reply.json()["choices"][0]["message"]["content"] == "x"
