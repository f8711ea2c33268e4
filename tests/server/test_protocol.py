"""Unusual bytes on the socket: heads in pieces, broken bodies, stray bytes, and clients that leave."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import server.connection.limited_protocol
from dialgraph.project import ROOT
from tests.support.serving import Served, serving
from tests.support.upstream import Action, says, upstream
from tests.support.wire import read_stream

CHAT = "/chat/completions"
HI: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
SLOW: list[Action] = [("chunk", "slow "), ("sleep", 0.6), *says("but sure")]


async def raw(served: Served, *pieces: bytes, pause: float = 0.0) -> tuple[int, bytes]:
    """Send these bytes; return the status and the body of the first reply."""
    connection = await served.connect()
    for piece in pieces:
        await connection.send(piece)
        await asyncio.sleep(pause)
    reply = await asyncio.wait_for(connection.reply(), 5)
    return reply.status, reply.body


async def test_a_head_may_arrive_in_any_pieces(tmp_path: Path) -> None:
    big = {"messages": [{"role": "user", "content": "x" * 200_000}], "stream": True}
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        for request in (served.request(CHAT, HI), served.request(CHAT, big)):
            end = request.index(b"\r\n\r\n")
            for cut in (1, end, end + 2, end + 3, end + 4, end + 5):
                status, body = await raw(served, request[:cut], request[cut:], pause=0.01)
                assert (status, read_stream(body).text) == (200, "Hello there."), cut


async def test_a_head_that_is_too_large_is_refused_in_any_form(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        whole = await raw(served, b"POST / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n")
        many = await raw(served, b"POST / HTTP/1.1\r\n", *[b"x: " + b"y" * 5000 + b"\r\n"] * 14)
        path = await raw(served, b"POST /" + b"y" * 70_000 + b" HTTP/1.1\r\n")
    assert [status for status, _ in (whole, many, path)] == [431] * 3
    assert json.loads(many[1])["error"]["code"] == "headers_too_large"


async def test_bytes_that_are_not_http_are_refused_with_the_envelope(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        status, body = await raw(served, b"GARBAGE\r\n\r\n")
        both = b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        smuggled = await raw(served, b"POST /health HTTP/1.1\r\nhost: localhost\r\n" + both)
    assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_http")
    assert smuggled[0] == 400


async def test_trailers_are_ignored_and_fill_no_memory(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        body = json.dumps(HI).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: evil.example\r\ncontent-type: application/json\r\n"
        chunked = f"{head}transfer-encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n"
        assert (await raw(served, chunked + b"host: localhost\r\n\r\n"))[0] == 401
        connection = await served.connect()
        before = psutil.Process().memory_info().rss
        with pytest.raises(ConnectionError):
            await connection.send(chunked)
            for _ in range(400):
                await connection.send(b"x: " + b"y" * 50_000 + b"\r\n")
                await asyncio.sleep(0)
        assert psutil.Process().memory_info().rss - before < 8 * 2**20


@pytest.mark.parametrize("header", ["host: localhost", "authorization: Bearer x"])
async def test_a_second_host_or_authorization_header_is_refused(tmp_path: Path, header: str) -> None:
    async with serving(tmp_path) as served:
        body = json.dumps(HI).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: evil.example\r\nauthorization: Bearer y\r\n{header}\r\n"
        status, reply = await raw(served, f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    assert (status, json.loads(reply)["error"]["code"]) == (400, "duplicate_header")


async def test_an_offer_to_upgrade_to_http_2_loses_no_body(tmp_path: Path) -> None:
    """Java's HttpClient sends such an offer with every first request."""
    headers = {
        "connection": "Upgrade, HTTP2-Settings",
        "upgrade": "h2c",
        "http2-settings": "AAEAAEAAAAIAAAABAAMAAABkAAQ",
    }
    async with serving(tmp_path) as served:
        reply = await served.post(CHAT, HI, headers)
        socket = await served.post(CHAT, HI, {"connection": "keep-alive, Upgrade", "upgrade": "websocket"})
    assert read_stream(reply.body).text
    assert read_stream(socket.body).text


@pytest.mark.parametrize("stray", [b"\r\n", b"POST / HTTP/1.1\r\nhost:", b"GARBAGE\r\n\r\n", b"x" * 70_000])
async def test_bytes_after_a_request_do_not_disturb_its_stream(
    tmp_path: Path, stray: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.connection.limited_protocol.HEADER_SECONDS", 0.2)
    monkeypatch.setattr("server.connection.limited_protocol.BODY_SECONDS", 0.2)
    async with upstream(SLOW) as up, serving(tmp_path, models={"main": up.url}) as served:
        connection = await served.connect()
        await connection.send(served.request(CHAT, HI) + stray)
        assert read_stream((await connection.reply()).body).text == "slow but sure"


async def test_a_broken_chunked_body_is_refused_immediately(tmp_path: Path) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    head += "transfer-encoding: chunked\r\n\r\n"
    async with serving(tmp_path) as served:
        status, body = await raw(served, head.encode() + b"5\r\nhello\r\n", b"ZZ\r\n", pause=0.05)
    assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_http")


async def test_the_rest_of_a_refused_body_does_not_hold_the_connection(tmp_path: Path) -> None:
    async with serving(tmp_path, api_keys={"a": "x" * 32}) as served:
        served.server.config.timeout_keep_alive = 1
        connection = await served.connect()
        request = served.request(CHAT, HI)
        await connection.send(request[:-10])
        assert (await connection.reply()).status == 401
        await connection.send(request[-10:])
        assert await asyncio.wait_for(connection.reader.read(), 5) == b""


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_a_refused_upload_gets_its_whole_reply_before_the_close(tmp_path: Path, version: bytes) -> None:
    async with serving(tmp_path, api_keys={"a": "x" * 32}) as served:
        connection = await served.connect()
        request = served.request("/api/rag/doc/upload", b"x" * 3_000_000, {"connection": "close"})
        await connection.send(request.replace(b"HTTP/1.1", version, 1))
        told = await asyncio.wait_for(connection.reader.read(), 5)
        assert told.startswith(b"HTTP/1.1 401 ") and told.endswith(b"}"), "the whole reply must arrive before the close"


@pytest.mark.parametrize("close", [True, False])
async def test_an_endless_body_is_cut_after_its_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, close: bool
) -> None:
    monkeypatch.setattr(server.connection.limited_protocol, "LINGER_SECONDS", 0.3)
    async with serving(tmp_path, api_keys={"a": "x" * 32}) as served:
        connection = await served.connect()
        headers = {"content-length": "999999999", **({"connection": "close"} if close else {})}
        await connection.send(served.request(CHAT, b"", headers).replace(b"content-length: 0\r\n", b""))
        assert (await connection.head())[0] == 401
        began = asyncio.get_running_loop().time()
        with suppress(ConnectionError):
            while True:
                await connection.send(b"x" * 10_000)
                assert asyncio.get_running_loop().time() - began < 5, "the server still reads the body"
                await asyncio.sleep(0.01)


async def test_leaving_is_noticed_while_a_pipelined_request_waits(tmp_path: Path) -> None:
    async with (
        upstream(default=[("chunk", "a"), ("hang",)]) as up,
        serving(tmp_path, models={"main": up.url}) as served,
    ):
        connection = await served.connect()
        await connection.send(served.request(CHAT, HI) * 2)
        await up.until(lambda: len(up.exchanges) == 1)
        connection.writer.close()
        await up.until(lambda: up.exchanges[0].left is not None)
        await up.until(lambda: not served.state.runs.open)
    assert len(up.exchanges) == 1


async def test_leaving_in_the_middle_of_a_body_starts_no_turn(tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        connection = await served.connect()
        await connection.send(served.request(CHAT, HI)[:-10])
        await asyncio.sleep(0.05)
        connection.writer.close()
        assert (await served.ask()).status == 200
    assert len(up.exchanges) == 1


async def test_a_body_that_does_not_arrive_closes_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.connection.limited_protocol.BODY_SECONDS", 0.2)
    async with serving(tmp_path) as served:
        connection = await served.connect()
        await connection.send(served.request(CHAT, HI)[:-10])
        assert await asyncio.wait_for(connection.reader.read(), 2) == b""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 401),
        ({"origin": "null"}, 401),
        ({"sec-fetch-site": "cross-site"}, 401),
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "https://app.example"}, 200),
        ({}, 200),
    ],
)
async def test_without_keys_foreign_web_pages_are_refused(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    async with serving(tmp_path, cors_origins=("https://app.example",)) as served:
        assert (await served.post(CHAT, HI, headers)).status == status


async def test_a_running_server_demands_a_key_once_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server.access.access_token import access_token
    from server.access.key_file import KeyFile

    monkeypatch.setattr("server.access.key_file._SECONDS_BETWEEN_LOOKS", 0.0)
    async with serving(tmp_path, auth="") as served:
        token = {"authorization": f"Bearer {access_token(tmp_path)}"}
        assert (await served.post(CHAT, HI, token)).status == 200
        key = KeyFile(tmp_path).create("first")
        assert (await served.post(CHAT, HI, token)).status == 401
        assert (await served.post(CHAT, HI, {"authorization": f"Bearer {key}", "via": "tunnel"})).status == 200
        (tmp_path / "keys.json").write_text("{broken")
        assert (await served.post(CHAT, HI, {"authorization": f"Bearer {key}"})).status == 401


async def test_a_field_nested_too_deeply_for_a_model_gets_400(tmp_path: Path) -> None:
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        reply = await served.ask(response_format=deep)
        odd = await served.ask("hi", "/hangup/chat/completions", tools=[{"type": "function", "function": None}])
    assert (reply.status, reply.error["code"]) == (400, "upstream_rejected")
    assert odd.status == 200


async def test_a_trailing_slash_is_answered_without_a_redirect(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert (await served.post(f"{CHAT}/", HI)).status == 200
        health = await served.post("/health/", b"", {"host": "evil.example"}, "GET")
        assert health.status == 200 and "location" not in health.headers


async def test_sigterm_ends_every_stream_with_a_shutdown_error(tmp_path: Path) -> None:
    async with upstream(default=[("chunk", "word "), ("hang",)]) as up:
        process = subprocess.Popen(  # noqa: ASYNC220 (the test waits for nothing else)
            [sys.executable, "-m", "server.cli", "serve", "--port", "0"], cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LLM_BASE_URL": up.url, "DIALGRAPH_GRACE_SECONDS": "0.5",
                 "DIALGRAPH_AUTH": "none"},
        )  # fmt: skip
        assert process.stdout is not None
        port = re.search(r"http://127.0.0.1:(\d+)", process.stdout.readline())
        assert port is not None
        served = Served(None, int(port[1]), None)  # type: ignore[arg-type]  # a process of its own
        streams = [asyncio.create_task(served.ask()) for _ in range(20)]
        await up.until(lambda: len(up.exchanges) == 20 and all(one.sent for one in up.exchanges), 20)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        answers = [read_stream((await stream).body) for stream in streams]
        code = await asyncio.to_thread(process.wait, 10)
        took = time.monotonic() - began
        process.stdout.close()
    assert all(answer.error is not None and answer.error["code"] == "server_shutdown" for answer in answers)
    assert code in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert 0.5 <= took <= 10
