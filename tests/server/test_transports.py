"""A second transport: a WebSocket protocol, defined in the tests, listens to the same runs as HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.connection.limited_protocol import MAX_HEADER_BYTES
from tests.support.serving import CHAT, Served, serving
from tests.support.upstream import Action, Upstream, says, upstream
from tests.support.websocket_words import ROUTE
from tests.support.wire import read_stream

SLOW: list[Action] = [("chunk", "One "), ("sleep", 0.3), *says("two.")]


@asynccontextmanager
async def scene(folder: Path, script: list[Action], **settings: Any) -> AsyncIterator[tuple[Served, Upstream]]:
    """Yield a server with the WebSocket route mounted, and its upstream."""
    async with upstream(default=script) as up, serving(folder, models={"main": up.url}, **settings) as served:
        served.app.router.routes.append(ROUTE)
        yield served, up


@asynccontextmanager
async def talking(served: Served, query: str = "", **headers: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Connect a WebSocket client; yield its socket."""
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{served.port}/words{query}"
        async with session.ws_connect(url, headers=headers) as socket:
            yield socket


async def answer(socket: aiohttp.ClientWebSocketResponse) -> str:
    """Receive one answer; return all its words."""
    words = ""
    while word := await socket.receive_str(timeout=10):
        words += word
    return words


async def test_a_websocket_client_receives_the_words(tmp_path: Path) -> None:
    async with scene(tmp_path, says("It opens at eight.")) as (served, up), talking(served) as socket:
        for _ in range(2):
            await socket.send_str("When does the pool open?")
            assert await answer(socket) == "It opens at eight."
    assert len(up.exchanges) == 2


async def test_http_and_a_websocket_can_share_one_run(tmp_path: Path) -> None:
    async with scene(tmp_path, SLOW) as (served, up), talking(served, "?call=c") as socket:
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        http = asyncio.create_task(served.post(CHAT, body, {"x-call-id": "c"}))
        await up.until(lambda: len(up.exchanges) == 1)
        await socket.send_str("hi")
        assert await answer(socket) == "One two."
        assert read_stream((await http).body).text == "One two."
        assert len(up.exchanges) == 1


async def test_closing_the_websocket_stops_the_upstream(tmp_path: Path) -> None:
    async with scene(tmp_path, [("chunk", "One "), ("hang",)]) as (served, up):
        async with talking(served) as socket:
            await socket.send_str("hi")
            assert await socket.receive_str() == "One "
        await up.until(lambda: up.exchanges[0].left is not None)
        await up.until(lambda: not served.state.runs.open)


async def test_a_failure_is_reported_over_a_websocket(tmp_path: Path) -> None:
    async with scene(tmp_path, [("status", 500, {}, b"{}")]) as (served, _), talking(served) as socket:
        await socket.send_str("hi")
        assert "answered with status 500" in await answer(socket)


async def test_authentication_and_the_header_limit_come_before_the_upgrade(tmp_path: Path) -> None:
    async with scene(tmp_path, says("Hi."), api_keys={"host": "dg-a-key-that-is-long-enough"}) as (served, up):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with talking(served):
                pass
        assert refused.value.status == 401
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with talking(served, odd="x" * (MAX_HEADER_BYTES + 1)):
                pass
        assert refused.value.status == 431
        async with talking(served, authorization="Bearer dg-a-key-that-is-long-enough") as socket:
            await socket.send_str("hi")
            assert await answer(socket) == "Hi."
    assert len(up.exchanges) == 1


@pytest.mark.parametrize(("path", "protocol"), [("/chat/completions", "websocket"), ("/words", "h2c")])
async def test_only_a_mounted_websocket_route_accepts_an_upgrade(tmp_path: Path, path: str, protocol: str) -> None:
    async with scene(tmp_path, says("Hi.")) as (served, _):
        reply = await served.get(path, {"connection": "Upgrade", "upgrade": protocol, "sec-websocket-version": "13"})
        assert reply.status in (404, 405) and "upgrade" not in reply.headers


@pytest.mark.parametrize("odd", [{"connection": "keep-alive"}, {"content-length": "2"}], ids=str)
async def test_an_incomplete_websocket_offer_is_plain_http(tmp_path: Path, odd: dict[str, str]) -> None:
    async with scene(tmp_path, says("Hi.")) as (served, _):
        connection = await served.connect()
        lines = {"host": "127.0.0.1", "connection": "Upgrade", "upgrade": "websocket", **odd}
        head = "GET /words HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
        body = b"hi" if "content-length" in odd else b""
        await connection.send(head.encode() + body + served.request("/health", b"", method="GET"))
        assert (await connection.reply()).status == 404
        assert (await connection.reply()).status == 200, "the next request begins where the body ends"


async def test_frames_that_arrive_with_the_head_are_received(tmp_path: Path) -> None:
    async with scene(tmp_path, says("Hi.")) as (served, up):
        connection = await served.connect()
        head = served.request("/words", b"", {
            "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
            "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }, "GET")  # fmt: skip
        masked = b"\x81\x82\x00\x00\x00\x00hi"  # RFC 6455, 5.2: a text frame of a client, masked with zeros
        await connection.send(head.replace(b"content-length: 0\r\n", b"") + masked)
        status, _ = await connection.head()
        assert status == 101
        await up.until(lambda: len(up.exchanges) == 1)
