"""Large and odd request bodies: which are refused, which are repaired, and how many bytes the server holds."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import ApiError
from server.http import json_body
from server.http.body_room import FREE_BYTES, BodyRoom
from server.http.json_body import json_object
from tests.server.test_users_api import login
from tests.support.serving import CHAT, serving
from tests.support.upstream import says, upstream
from tests.support.wire import read_stream

HEAD = b'{"messages": [{"role": "user", "content": "hi"}], "stream": true, "x": '


@pytest.mark.parametrize("filling", [b"0,", b"{},", b'{"a":1},', b'"",', b"[[[]]],", b'"a\\\\",', b'"\\"",'])
async def test_a_body_with_too_many_values_is_refused(filling: bytes, tmp_path: Path) -> None:
    body = HEAD + b"[" + filling * 150_000 + b"0]}"
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        reply = await served.post(CHAT, body)
        small = await served.ask("still here?")
    assert (reply.status, reply.error["code"]) == (400, "invalid_value") and not up.exchanges[1:]
    assert small.status == 200


@pytest.mark.parametrize("text", [", " * 400_000, "[{" * 400_000, '\\",' * 300_000, "\\" * 900_001, '"' * 600_000])
async def test_the_characters_of_a_long_text_do_not_count_as_values(text: str, tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        reply = await served.ask(text)
    assert reply.status == 200 and up.bodies[0]["messages"][0]["content"] == text


@given(st.lists(st.text(alphabet='"\\,[{}a:', max_size=40), max_size=30), st.integers(2, 64))
@settings(max_examples=300, deadline=None)
def test_counting_in_slices_equals_counting_the_whole_body(texts: list[str], size: int) -> None:
    body = json.dumps({"x": texts}).encode()
    within = len(texts) - 1 + 2 if texts else 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "LARGE_BYTES", 0)
        patch.setattr(json_body, "_SLICE_BYTES", size)
        patch.setattr(json_body, "MOST_VALUES", max(within, len(texts) + 1))
        assert json_object(body) == {"x": texts}
        patch.setattr(json_body, "MOST_VALUES", within - 1)
        with pytest.raises(ApiError):
            json_object(body)


async def test_errors_name_the_limits_of_parts_messages_and_tools(tmp_path: Path) -> None:
    part = {"type": "text", "text": "a"}
    bodies: dict[str, dict[str, Any]] = {
        "parts": {"messages": [{"role": "user", "content": [part] * 5001}] * 2},
        "tool calls": {"messages": [{"role": "assistant", "content": "", "tool_calls": [{}] * 513}] * 2},
        "entries": {"messages": [{"role": "user", "content": "hi"}], "tools": [{}] * 1001},
    }
    async with serving(tmp_path) as served:
        for word, body in bodies.items():
            reply = await served.post(CHAT, body)
            assert reply.status == 400 and word in reply.error["message"]


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/keys", "/v1/knowledge-bases"])
async def test_bodies_of_the_account_routes_are_limited_too(path: str, tmp_path: Path) -> None:
    values = b'{"title": "x", "name": "x", "x": [' + b"[]," * 200_000 + b"0]}"
    async with serving(tmp_path, body_limit_mb=1, bodies_mb=2) as served:
        ann, _ = await login(served)
        refused = await ann.post(path, values)
        waiting = [await served.connect() for _ in range(6)]
        for connection in waiting:
            whole = served.request(path, b" " * 1_000_000, ann.headers)
            await connection.send(whole[:-1])
        replies = [asyncio.create_task(connection.reply()) for connection in waiting]
        done: set[asyncio.Task[Any]] = set()
        while len(done) < 5:
            done, _ = await asyncio.wait(replies, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0.01)
        first = [reply.result().status for reply in done]
        for reply in replies:
            reply.cancel()
        await asyncio.gather(*replies, return_exceptions=True)
    assert (refused.status, refused.error["code"]) == (400, "invalid_value")
    assert first == [503] * 5, "one body has its room; the others are refused and do not wait"


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (rb"Great \ud83d", "Great \ufffd"),
        (rb"\ude00 there", "\ufffd there"),
        (rb"\ud83d\ude00 and \ud83d", "\U0001f600 and \ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"a \\ud83d b \ud83d", "a \\ud83d b \ufffd"),
        (rb"\\\ud83d", "\\\ufffd"),
    ],
)
async def test_half_an_emoji_is_replaced_and_the_turn_is_answered(raw: bytes, read: str, tmp_path: Path) -> None:
    body = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "' + raw
    body += b'"}, {"role": "user", "content": "and?"}], "stream": true}'
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        replies = [await served.post(CHAT, start + body) for start in (b"", b"\xef\xbb\xbf")]
    assert [read_stream(reply.body).text for reply in replies] == ["Hello there."] * 2
    assert all(asked["messages"][1]["content"] == read for asked in up.bodies)


async def test_the_bytes_of_bodies_are_limited_and_small_ones_always_pass(tmp_path: Path) -> None:
    large = {"messages": [{"role": "user", "content": "a" * 1_000_000}], "stream": True}
    keys = {"alice": "a" * 20, "bob": "b" * 20}
    more: dict[str, Any] = {"bodies_mb": 4, "body_limit_mb": 1.5, "api_keys": keys}
    alice, bob = ({"authorization": f"Bearer {key}"} for key in keys.values())
    async with upstream(default=[("hang",)]) as up, serving(tmp_path, models={"main": up.url}, **more) as served:
        waiting = []
        for _ in range(2):
            connection = await served.connect()
            await connection.send(served.request(CHAT, large, alice))
            waiting.append(connection)
        await up.until(lambda: len(up.exchanges) == 2)
        third = await served.post(CHAT, large, alice)
        small = await served.connect()
        await small.send(served.request(CHAT, {"messages": [{"role": "user", "content": "hi"}]}, alice))
        other = await served.connect()
        await other.send(served.request(CHAT, large, bob))
        await up.until(lambda: len(up.exchanges) == 4)
        for connection in (*waiting, small, other):
            connection.reset()
        await up.until(lambda: all(one.left is not None for one in up.exchanges))
        up.default = says("Hi.")
        for _ in range(200):
            if (again := await served.post(CHAT, large, alice)).status == 200:
                break
            await asyncio.sleep(0.02)
    assert (third.status, third.error["code"]) == (503, "server_busy") and int(third.headers["retry-after"]) > 0
    assert again.status == 200


def test_bytes_beyond_the_free_ones_are_counted_and_given_back() -> None:
    room = BodyRoom(most=10 * FREE_BYTES, largest_body=FREE_BYTES)
    for _ in range(3):
        with room.place("a") as place:
            place.grow_to(FREE_BYTES)
            assert place.counted == 0
            place.grow_to(3 * FREE_BYTES)
            place.grow_to(6 * FREE_BYTES)
            with pytest.raises(ApiError), room.place("a") as second:
                second.grow_to(2 * FREE_BYTES)
