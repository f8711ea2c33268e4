"""Unusual connections: other versions of HTTP, port scans, long pauses, signals and other ASGI servers."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dialgraph.project import ROOT
from server.app import create_app
from server.process import sockets
from server.settings import Settings
from tests.server.test_client_pressure import small_window
from tests.support.server_process import Server
from tests.support.serving import CHAT, Connection, Served, serving
from tests.support.upstream import Action, says, upstream
from tests.support.wire import read_stream

HI = b'{"messages": [{"role": "user", "content": "hi"}], "stream": true}'
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
SCANS = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\n",
    b"GET / HTTP/2.0\r\nhost: localhost\r\n\r\n",
    b"GET / HTTP/3\r\n\r\n",
    b"GET /\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    b"CONNECT localhost:22 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"\x00" * 200 + b"\r\n\r\n",
    b"OPTIONS rtsp://x RTSP/1.0\r\n\r\n",
    b"*1\r\n$4\r\nINFO\r\n\r\n\r\n",
]


@pytest.mark.parametrize("scan", SCANS)
async def test_a_port_scan_is_refused_without_a_traceback(
    scan: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        connection = await served.connect()
        await connection.send(scan)
        reply = await connection.reader.read()
        after = await served.ask()
    assert reply.startswith(b"HTTP/1.1 400 ") and b"invalid_http" in reply and after.status == 200
    assert "Traceback" not in caplog.text and not [one for one in caplog.records if one.levelname == "ERROR"]


@pytest.mark.parametrize(
    "coding", ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked\r\ntransfer-encoding: chunked"]
)
async def test_an_unsupported_transfer_coding_is_refused(coding: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        connection = await served.connect()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: {coding}"
        )
        await connection.send(head.encode() + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(HI), HI))
        reply = await connection.reader.read()
    assert reply.startswith(b"HTTP/1.1 400 ") and reply.count(b"HTTP/1.1 ") == 1


async def test_an_http_1_0_client_gets_no_chunks(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        found = []
        for path, method, body in (
            (CHAT, "POST", HI),
            (CHAT, "POST", HI.replace(b"true", b"false")),
            ("/health", "GET", b""),
        ):
            connection = await served.connect()
            head = f"{method} {path} HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            await connection.send(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            found.append((await connection.reader.read()).partition(b"\r\n\r\n"))
    assert all(b"transfer-encoding" not in head and b"connection: close" in head for head, _, _ in found)
    assert (
        read_stream(found[0][2]).finish == "stop" and found[1][2].startswith(b"{") and found[2][2] == b'{"status":"ok"}'
    )


@pytest.mark.long
async def test_a_client_that_pauses_for_fourteen_seconds_is_not_cut_off(tmp_path: Path) -> None:
    script: list[Action] = [("chunk", "word " * 400)] * 400 + says("end")
    assert Settings().send_timeout_seconds * 1000 < sockets.UNACKNOWLEDGED_MILLISECONDS
    async with upstream(default=script) as up, serving(tmp_path, models={"main": up.url}) as served:
        connection = await small_window(served.port)
        connection.reader._transport.pause_reading()  # type: ignore[attr-defined]  # asyncio would read ahead
        await connection.send(served.request(CHAT, BODY))
        await up.until(lambda: bool(up.exchanges))
        await asyncio.sleep(14)
        connection.reader._transport.resume_reading()  # type: ignore[attr-defined]
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            piece = await connection.reader.read(65_536)
            assert piece, "the client was cut off"
            data += piece
        await connection.aclose()
    assert b"[DONE]" in data


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
async def test_running_calls_finish_after_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    slow: list[Action] = [("chunk", "Slow "), ("sleep", 1.0), *says("end.")]
    async with upstream(default=slow) as up:
        server = Server(tmp_path, up.url)
        await server.start()
        writer, reader = await server.open("POST", CHAT, BODY)
        await up.until(lambda: bool(up.exchanges) and up.exchanges[0].sent > 0, 20)
        assert server.process is not None
        server.process.send_signal(number)
        data = await reader.read()
        writer.close()
        await server.process.wait()
    assert b"Slow " in data and b"end." in data and b"[DONE]" in data


async def test_a_stopping_server_refuses_new_connections_while_calls_finish(tmp_path: Path) -> None:
    """Guard against an old fault: a voice's process also had the listening socket, so new connections hung."""
    async with upstream(default=[("chunk", "Slow "), ("hang",)]) as up:
        server = Server(tmp_path, up.url, grace_seconds=120)
        await server.start()
        writer, _ = await server.open("POST", CHAT, BODY)
        await up.until(lambda: bool(up.exchanges) and up.exchanges[0].sent > 0, 20)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        refused = asyncio.Event()

        async def look() -> None:
            while not refused.is_set():
                try:
                    _, one = await asyncio.open_connection("127.0.0.1", server.port)
                except ConnectionRefusedError:
                    refused.set()
                else:
                    one.close()
                    await asyncio.sleep(0.05)

        await asyncio.wait_for(look(), 30)
        assert up.exchanges[0].left is None, "the call goes on"
        writer.close()
        await server.kill()


@pytest.mark.parametrize("arguments", [["uvicorn"], ["-m", "uvicorn"]])
def test_another_asgi_server_is_refused_with_a_message(arguments: list[str], tmp_path: Path) -> None:
    program = (
        [str(Path(sys.executable).parent / "uvicorn")] if arguments == ["uvicorn"] else [sys.executable, *arguments]
    )
    refused = subprocess.run(
        [*program, "server.asgi:app", "--port", "0"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert refused.returncode != 0 and "Start the server with `dialgraph serve`" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_a_request_through_another_asgi_server_is_refused(tmp_path: Path) -> None:
    import uvicorn

    from server.asgi import OnlyOurServer

    app = create_app(Settings(data_dir=tmp_path, auth="none"))
    app.add_middleware(OnlyOurServer)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    connection = Connection(*await asyncio.open_connection(*listener.getsockname()))
    served = Served(app, listener.getsockname()[1], None)  # type: ignore[arg-type]  # uvicorn's own
    await connection.send(served.request(CHAT, BODY))
    reply = await connection.reply()
    await connection.aclose()
    server.should_exit = True
    await task
    assert (reply.status, reply.error["code"]) == (503, "unsupported_server")
