"""Clients that read slowly, send slowly, vanish or barge in: each is limited and harms no other client."""

import asyncio
import random
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from dialgraph.graph.spec import Graph, Step
from dialgraph.turn.node import State, Turn, Update, node
from server.connection import limited_protocol
from server.process import sockets
from tests.support.serving import Connection, serving
from tests.support.upstream import Action, says, upstream
from tests.support.wire import read_stream

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
FLOOD: list[Action] = [("chunk", "word " * 400)] * 20_000


async def small_window(port: int) -> Connection:
    """Open a connection whose kernel buffers only a few bytes that are not read."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    return Connection(*await asyncio.open_connection(sock=raw, limit=1024))


@pytest.mark.long
async def test_clients_that_never_read_are_held_back_and_cut_off(
    tmp_path: Path, nothing_left: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "UNACKNOWLEDGED_MILLISECONDS", 600_000)  # otherwise the kernel would cut them off too
    count = 50
    async with upstream(default=FLOOD) as up:
        async with serving(tmp_path, models={"main": up.url}, send_timeout_seconds=6) as served:
            before = psutil.Process().memory_info().rss
            connections = []
            for _ in range(count):
                connection = await small_window(served.port)
                connection.reader._transport.pause_reading()  # type: ignore[attr-defined]  # asyncio would read ahead
                await connection.send(served.request("/chat/completions", BODY))
                connections.append(connection)
            await up.until(lambda: len(up.exchanges) == count)
            # Once the kernel's buffers are full, the upstream is held back until the clients are cut off.
            sent = [0, sum(exchange.sent for exchange in up.exchanges)]
            while sent[-1] != sent[-2]:
                await asyncio.sleep(0.3)
                sent.append(sum(exchange.sent for exchange in up.exchanges))
            assert served.state.runs.open, "the clients are held back, not cut off"
            grown = psutil.Process().memory_info().rss - before
            await asyncio.sleep(0.5)
            later = psutil.Process().memory_info().rss - before
            await up.until(lambda: not served.state.runs.open, 15)
            await up.until(lambda: all(exchange.left is not None for exchange in up.exchanges))
            for connection in connections:
                connection.writer.transport.abort()
    # The memory of both ends and of the scripted upstream, which share this process. A chunk has two kilobytes.
    assert grown / count < 4 * 1024 * 1024, f"{grown / count / 1024:.0f} KiB a client"
    assert later - grown < 8 * 1024 * 1024, "memory must not grow while the clients wait"


async def test_a_client_that_reads_slowly_is_not_cut_off(tmp_path: Path) -> None:
    script: list[Action] = [("chunk", "word " * 400)] * 200 + says("end")
    async with upstream(default=script) as up:
        async with serving(tmp_path, models={"main": up.url}, send_timeout_seconds=1) as served:
            connection = await small_window(served.port)
            await connection.send(served.request("/chat/completions", BODY))
            began = time.monotonic()
            data = b""
            while not data.endswith(b"0\r\n\r\n"):
                data += await connection.reader.read(16_384)
                await asyncio.sleep(0.05)
            assert time.monotonic() - began > 1.2 and b"[DONE]" in data
            await connection.aclose()


DROP_ALL = struct.pack("HHI", 0x06, 0, 0)
"""A socket filter of one instruction: drop every packet."""


@pytest.mark.soak
async def test_a_client_that_vanished_is_noticed_within_ten_seconds(tmp_path: Path) -> None:
    async with upstream(default=[("chunk", "a"), ("sleep", 0.2)] * 200) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            connection = await served.connect()
            await connection.send(served.request("/chat/completions", BODY))
            await connection.head()
            # Every packet to it is dropped: no FIN, no RST, no acknowledgement.
            import ctypes

            code = ctypes.create_string_buffer(DROP_ALL)
            program = struct.pack("HL", 1, ctypes.addressof(code))
            raw = connection.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER
            began = time.monotonic()
            await up.until(lambda: up.exchanges[0].left is not None, 15)
            assert time.monotonic() - began < 12


@pytest.mark.soak
async def test_the_upstream_is_read_as_slowly_as_the_client_reads(tmp_path: Path) -> None:
    async with upstream(default=FLOOD) as up, serving(tmp_path, models={"main": up.url}) as served:
        connection = await small_window(served.port)
        await connection.send(served.request("/chat/completions", BODY))
        sent = []
        for _ in range(12):  # the kernel's own buffers are full after a few seconds
            await connection.reader.read(1024)
            await asyncio.sleep(1)
            sent.append(up.exchanges[0].sent)
        assert sent[-1] - sent[5] < 200
        connection.writer.transport.abort()


SLOW = {
    "silent": [],
    "half a head": [b"POST /chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"],
    "half a body": [b"POST /chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{"],
    "a byte at a time": [
        b"POST /chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5000\r\n\r\n", *[b" "] * 500,
    ],
    "a chunk at a time": [
        b"POST /chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n",
        *[b"1\r\n \r\n"] * 500,
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SLOW)
async def test_a_client_that_sends_too_slowly_is_closed_and_delays_nobody(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_protocol, "HEADER_SECONDS", 0.6)
    monkeypatch.setattr(limited_protocol, "BODY_SECONDS", 0.6)
    async with serving(tmp_path) as served:
        connection = await served.connect()

        async def send() -> None:
            for piece in SLOW[name]:
                await connection.send(piece)
                await asyncio.sleep(0.02)

        sending = asyncio.create_task(send())
        began = time.monotonic()
        assert (await served.ask()).status == 200
        with suppress(ConnectionResetError):  # bytes that arrive during the close turn its FIN into an RST
            assert await asyncio.wait_for(connection.reader.read(), 5) == b""
        assert time.monotonic() - began < 6
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def test_head_and_body_must_arrive_within_fifteen_seconds() -> None:
    assert limited_protocol.HEADER_SECONDS <= 15 and limited_protocol.BODY_SECONDS <= 15


async def test_a_large_body_may_take_as_long_as_its_size_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited_protocol, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(limited_protocol, "BODY_BYTES_A_SECOND", 100_000)
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        connection = await served.connect()
        request = served.request("/chat/completions", {**BODY, "padding": "x" * 400_000})
        for at in range(0, len(request), 20_000):  # 200 kB a second
            await connection.send(request[at : at + 20_000])
            await asyncio.sleep(0.1)
        assert (await connection.reply()).status == 200


async def test_leaving_during_an_upload_starts_no_turn(tmp_path: Path, nothing_left: None) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        request = served.request("/chat/completions", {**BODY, "padding": "x" * 15_000_000})
        for _ in range(10):
            connection = await served.connect()
            await connection.send(request[: random.randrange(1, len(request))])
            connection.reset()
        assert (await served.ask()).status == 200
        assert len(up.exchanges) == 1 and not served.state.runs.open


async def test_two_hundred_barge_ins_keep_the_history_valid(tmp_path: Path, nothing_left: None) -> None:
    hangs: list[Action] = [("chunk", "Old "), ("hang",)]
    history: list[dict[str, Any]] = []
    async with upstream() as up:
        up.choose = lambda body: hangs if len(up.exchanges) <= 200 else says("The last word.")
        async with serving(tmp_path, models={"main": up.url}) as served:
            for turn in range(201):
                call = {"id": f"c{turn}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                history += [{"role": "user", "content": f"turn {turn}"}]
                connection = await served.connect()
                body = {**BODY, "messages": list(history[-6:])}
                await connection.send(served.request("/chat/completions", body, {"x-call-id": "c"}))
                await up.until(lambda turn=turn: len(up.exchanges) > turn)  # type: ignore[misc]
                if turn < 200:
                    connection.reset()  # the next turn follows immediately
                history += [{"role": "assistant", "content": "Old ", "tool_calls": [call]}]
            answer = read_stream((await connection.reply()).body)
            await up.until(lambda: all(one.left is not None for one in up.exchanges[:200]))
    assert answer.text == "The last word."
    for body in up.bodies:
        open_calls: set[str] = set()
        for message in body["messages"]:
            if message["role"] == "tool":
                open_calls.discard(message["tool_call_id"])
            else:
                assert not open_calls, "every tool call is directly followed by its result"
            open_calls |= {one["id"] for one in message.get("tool_calls", [])}
        assert not open_calls


async def test_keep_alives_hold_a_proxy_open_during_a_silent_tool(tmp_path: Path) -> None:
    idle = 0.6

    @node()
    async def tool(state: State, turn: Turn) -> Update:
        """Stay silent for longer than the proxy waits."""
        await asyncio.sleep(3 * idle)
        return None

    spec = Graph(name="quiet", steps=(Step("tool"), Step("call_model")))
    async with upstream() as up:
        async with serving(tmp_path, (spec, [tool]), models={"main": up.url}, keepalive_ms=150) as served:

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                behind, onward = await asyncio.open_connection("127.0.0.1", served.port)
                onward.write(await reader.read(65536))
                try:
                    while data := await asyncio.wait_for(behind.read(65536), idle):
                        writer.write(data)
                except TimeoutError:
                    writer.write(b"CUT BY THE PROXY")
                writer.close()
                onward.close()

            proxy = await asyncio.start_server(connected, "127.0.0.1", 0)
            connection = Connection(*await asyncio.open_connection(*proxy.sockets[0].getsockname()))
            await connection.send(served.request("/quiet/chat/completions", BODY))
            reply = await connection.reply()
            await connection.aclose()
            proxy.close()
    answer = read_stream(reply.body)
    assert answer.text == "Hello there." and answer.comments >= 5


async def test_a_client_that_never_reads_the_last_words_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @node(speaks=True)
    async def flood(state: State, turn: Turn) -> Update:
        """Say one word that is too large for any socket buffer. Only the end of the stream follows it."""
        await turn.say("x" * 30_000_000)
        return None

    monkeypatch.setattr(sockets, "UNACKNOWLEDGED_MILLISECONDS", 600_000)
    spec = Graph(name="floods", steps=(Step("flood"),))
    async with upstream() as up, serving(tmp_path, (spec, [flood]), send_timeout_seconds=1) as served:
        connection = await small_window(served.port)
        connection.reader._transport.pause_reading()  # type: ignore[attr-defined]  # asyncio would read ahead
        await connection.send(served.request("/floods/chat/completions", BODY))
        await up.until(lambda: bool(served.state.runs.open))
        await up.until(lambda: not served.state.runs.open)
        began = time.monotonic()
        await up.until(lambda: time.monotonic() - began > 2.5)
        connection.reader._transport.resume_reading()  # type: ignore[attr-defined]
        data = b""
        try:
            while piece := await connection.reader.read(1_000_000):
                data = (data + piece)[-100:]
        except ConnectionError:
            pass
        await connection.aclose()
        assert b"[DONE]" not in data
