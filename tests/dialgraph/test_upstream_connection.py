"""Faults of the connection to a model's server, and stores and branches that fail during a turn."""

import asyncio
import gzip
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme

from dialgraph.graph.spec import END, Graph, Step
from dialgraph.passages import Filter, Passage, StoreError
from dialgraph.turn.node import State, Turn, Update, node
from knowledge.store import ENGINES, StoreConfig
from tests.support.serving import serving
from tests.support.upstream import Action, delta, says, upstream
from tests.support.wire import read_stream


async def test_a_connection_that_is_never_accepted_is_504_at_its_deadline(tmp_path: Path) -> None:
    # The backlog is full: the kernel silently drops further handshakes.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())
            waiting.append(one)
        model = {"url": f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", "connect_seconds": 0.3, "first_byte_seconds": 5}
        async with serving(tmp_path, models={"main": model}) as served:
            began = time.monotonic()
            reply = await served.ask()
            took = time.monotonic() - began
        for one in waiting:
            one.close()
    assert reply.status == 504 and reply.error["code"] == "upstream_timeout" and took < 4, (
        "the deadline of the connection must count, not the five seconds of the first byte"
    )


@asynccontextmanager
async def behind_tls(certificate: trustme.LeafCert) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Start a TLS server that records every request. Yield its port and the records."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    asked: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(65536))
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


@pytest.mark.parametrize("fault", ["self-signed", "wrong name", "expired"])
async def test_a_bad_certificate_is_refused_before_anything_is_sent(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    if fault != "self-signed":  # an authority that this machine trusts
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    past = datetime.now(UTC) - timedelta(days=1)
    certificate = authority.issue_cert(
        "elsewhere.example" if fault == "wrong name" else "localhost",
        not_after=past if fault == "expired" else None,
    )
    async with behind_tls(certificate) as (port, asked):
        model = {"url": f"https://localhost:{port}/v1", "api_key": "secret-key"}
        async with serving(tmp_path, models={"main": model}) as served:
            reply = await served.ask()
    assert reply.status == 502 and reply.error["code"] == "upstream_unreachable"
    assert not any(b"secret-key" in data for data in asked)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_gets_no_key(tmp_path: Path, status: int) -> None:
    async with upstream() as elsewhere:
        location = {"location": f"http://localhost:{elsewhere.port}/v1/chat/completions"}
        async with upstream([("status", status, location, b"")]) as up:
            model = {"url": up.url, "api_key": "secret-key"}
            async with serving(tmp_path, models={"main": model}) as served:
                reply = await served.ask()
    assert reply.status == 502 and len(up.exchanges) == 1 and not elsewhere.exchanges


async def test_a_compressed_flood_is_never_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(b"data: " + b"x" * 300_000_000)
    headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    async with upstream([("status", 200, headers, bomb)]) as up, serving(tmp_path, models={"main": up.url}) as served:
        before = psutil.Process().memory_info().rss
        reply = await served.ask()
        grown = psutil.Process().memory_info().rss - before
    assert reply.status == 502 and up.exchanges[0].headers["accept-encoding"] == "identity"
    assert grown < 64 * 1024 * 1024


async def test_random_cancellation_does_not_damage_the_connection_pool(tmp_path: Path) -> None:
    slow: list[Action] = [("headers",), ("sleep", 0.02), ("chunk", "a"), ("sleep", 0.02), *says("b")]
    async with upstream(default=slow) as up, serving(tmp_path, models={"main": up.url}) as served:
        until = time.monotonic() + 3

        async def worker() -> None:
            body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
            while time.monotonic() < until:
                connection = await served.connect()
                await connection.send(served.request("/chat/completions", body))
                await asyncio.sleep(random.random() * 0.06)
                connection.reset()

        await asyncio.gather(*(worker() for _ in range(20)))
        replies = await asyncio.gather(*(served.ask() for _ in range(10)))
        await up.until(lambda: not served.state.runs.open)
    assert [read_stream(reply.body).text for reply in replies] == ["ab"] * 10


async def test_a_closed_idle_connection_neither_fails_nor_doubles_a_turn(tmp_path: Path) -> None:
    """Let the upstream close a connection that we believe to be alive, just as we use it."""
    asked: list[int] = []
    streams: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streams.append(writer)
        number = len(streams)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(
                    next((line[16:] for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), b"0")
                )
                await reader.readexactly(length)
                if head.startswith(b"GET"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                    continue
                asked.append(number)
                data = delta({"content": "Hi"}) + delta({}, "stop") + b"data: [DONE]\n\n"
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(data)
                writer.write(head + data)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    model = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with serving(tmp_path, models={"main": model}) as served:
        texts = [read_stream((await served.ask()).body).text]
        for _ in range(5):
            for stream in streams:  # all idle ones; the next request starts before we can notice
                stream.close()
            texts.append(read_stream((await served.ask()).body).text)
    server.close()
    assert texts == ["Hi"] * 6 and len(asked) == 6


class FailingStore:
    """A store whose embedder is away, as an engine that an address can name."""

    def __init__(self, place: StoreConfig) -> None:
        self._searched = False

    async def search(
        self, question: str, top_k: int, only: Filter | None = None, min_score: float | None = None
    ) -> list[Passage]:
        """Return nothing on the first search, which warms the store. Raise StoreError on every later one."""
        if self._searched:
            raise StoreError("The embedder at http://10.0.0.5 refused the key sk-secret.")
        self._searched = True
        return []

    async def add(self, documents: object) -> int:
        """Add nothing."""
        return 0

    async def aclose(self) -> None:
        """Close nothing."""


@pytest.mark.parametrize("filled", [False, True])
async def test_a_failing_store_is_an_error_or_leads_to_on_error(
    tmp_path: Path, filled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    @node()
    async def pause(state: State, turn: Turn) -> Update:
        """Wait long enough for the filler."""
        await asyncio.sleep(0.1 if filled else 0)
        return None

    monkeypatch.setitem(ENGINES, "failing", f"{__name__}:FailingStore")
    acknowledge = Step("acknowledge", options={"say": ["One moment."], "after_ms": 10 if filled else 9_000})
    spec = Graph(name="looks", steps=(acknowledge, Step("pause"), Step("retrieve"), Step("call_model")))
    going_on = (Step("retrieve", on_error="call_model"), Step("call_model"))
    graphs: Any = ((spec, [pause]), (Graph(name="goes_on", steps=going_on), []))
    settings: Any = {"stores": {"main": "failing:"}}
    async with upstream() as up, serving(tmp_path, *graphs, models={"main": up.url}, **settings) as served:
        reply = await served.ask("sauna?", "/looks/chat/completions")
        assert not up.exchanges
        without = read_stream((await served.ask("sauna?", "/goes_on/chat/completions")).body)
    assert without.text == "Hello there." and b"secret" not in reply.body
    if filled:
        answer = read_stream(reply.body)
        assert answer.text == "One moment. " and answer.error is not None
        assert answer.error["code"] == "store_unavailable"
    else:
        assert reply.status == 503 and reply.error["code"] == "store_unavailable"


async def test_a_branch_that_fails_after_its_retries_ends_the_turn(tmp_path: Path, nothing_left: None) -> None:
    tries = 0

    @node()
    async def breaks(state: State, turn: Turn) -> Update:
        """Fail each time."""
        nonlocal tries
        tries += 1
        await asyncio.sleep(0.02)
        raise RuntimeError("broken")

    @node()
    async def fork(state: State, turn: Turn) -> Update:
        """Start two branches."""
        return None

    steps = (Step("fork", then=("call_model", "breaks")), Step("call_model", then=END), Step("breaks", retry=2))
    spec = Graph(name="both", steps=steps)
    async with upstream(default=[("chunk", "a"), ("hang",)]) as up:
        async with serving(tmp_path, (spec, [breaks, fork]), models={"main": up.url}) as served:
            reply = await served.ask("hi", "/both/chat/completions")
            await up.until(lambda: up.exchanges[0].left is not None)
            assert not served.state.runs.open
    answer = read_stream(reply.body)
    assert answer.text == "a" and answer.error is not None and reply.body.count(b'"error"') == 1
    assert tries == 3
