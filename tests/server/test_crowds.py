"""Limits under load: idle connections, proxies that connect for many clients, and files that pile up."""

import asyncio
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.connection import crowd, proxy_protocol
from server.connection.crowd import most_connections
from server.connection.networks import address_of, networks
from server.connection.proxy_protocol import ProxyHeaderError, may_begin, read_header
from tests.support.accounts import somebody
from tests.support.proxies import in_front
from tests.support.serving import CHAT, Connection, Served, serving
from tests.support.upstream import says, upstream

KEY = "k" * 20
BEARER = {"authorization": f"Bearer {KEY}"}
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": True}


async def idle(served: Served, headers: dict[str, str] | None = None, path: str = "/health") -> Connection:
    """Open a connection that gets one reply and stays open."""
    connection = await served.connect()
    await connection.send(served.request(path, b"", headers, "GET"))
    await connection.reply()
    return connection


async def is_open(connection: Connection) -> bool:
    try:
        return await asyncio.wait_for(connection.reader.read(1), 0.2) != b""
    except TimeoutError:
        return True
    except ConnectionError:
        return False


async def test_idle_connections_do_not_block_new_clients(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with upstream() as up:
        settings: dict[str, Any] = {"models": {"main": up.url}, "api_keys": {"a": KEY}}
        async with serving(tmp_path, most_connections=20, **settings) as served:
            known = await idle(served, BEARER, "/v1/models")
            strangers = [await idle(served) for _ in range(60)]
            reply = await served.post(CHAT, BODY, BEARER)
            again = await served.post(CHAT, BODY, BEARER)
            still = [await is_open(stranger) for stranger in strangers]
            assert await is_open(known), "a connection with a key is closed last"
    assert (reply.status, again.status) == (200, 200)
    assert sum(still) < 20 and still == sorted(still), "the longest idle connection is closed first"
    told = [record for record in caplog.records if "there was no room for more connections" in record.getMessage()]
    assert len(told) == 1


@pytest.mark.parametrize("path", ["/v1/users", "/v1/sessions", "/v1/conversations", "/api/users/login", CHAT])
async def test_unfinished_bodies_do_not_block_new_clients(path: str, tmp_path: Path) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n".encode()
    async with upstream() as up:
        settings: dict[str, Any] = {"models": {"main": up.url}, "api_keys": {"a": KEY}, "registration": "open"}
        async with serving(tmp_path, most_connections=20, **settings) as served:
            for _ in range(60):
                stranger = await served.connect()
                await stranger.send(head + b"{")
            replies = [await served.post(CHAT, BODY, BEARER) for _ in range(3)]
    assert [reply.status for reply in replies] == [200] * 3


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/keys", "/api/conversations/create", "/api/rag/doc/upload"])
async def test_a_request_without_access_is_refused_before_its_body_arrives(path: str, tmp_path: Path) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n".encode()
    )
    async with serving(tmp_path, api_keys={"a": KEY}) as served:
        stranger = await served.connect()
        await stranger.send(head)
        reply = await stranger.reply()
        door = await served.post("/v1/sessions", {"name": "ann", "password": "x" * 20_000})
    assert reply.status == 401 and (door.status, door.error["code"]) == (413, "body_too_large")


async def test_a_running_call_is_never_closed_for_a_new_connection(tmp_path: Path) -> None:
    slow = [("chunk", "Slow "), ("sleep", 0.5), *says("end.")]
    async with upstream(default=slow) as up:
        async with serving(tmp_path, most_connections=16, models={"main": up.url}) as served:
            calls = [await served.connect() for _ in range(16)]
            for connection in calls:
                await connection.send(served.request(CHAT, BODY))
            await up.until(lambda: len(up.exchanges) == 16)
            one_more = await served.connect()
            assert not await is_open(one_more)
            replies = [await connection.reply() for connection in calls]
    assert all(b"[DONE]" in reply.body for reply in replies)


def test_the_connection_limit_follows_the_limit_of_open_files() -> None:
    assert most_connections(1024) == 412 and most_connections(100) == crowd.FEWEST
    assert most_connections(1_048_576) > 500_000


TEXT = b"PROXY TCP4 203.0.113.7 198.51.100.1 4321 80\r\n"
BINARY = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack("!H", 12) + socket.inet_aton("203.0.113.7")
    + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 4321, 80)
)  # fmt: skip
SIX = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x21" + struct.pack("!H", 36 + 5) + socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + struct.pack("!HH", 4321, 80) + b"extra"
)  # fmt: skip
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (TEXT, ("203.0.113.7", 4321)),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4321 80\r\n", ("2001:db8::7", 4321)),
        (b"PROXY UNKNOWN\r\n", None),
        (BINARY, ("203.0.113.7", 4321)),
        (SIX, ("2001:db8::7", 4321)),
        (LOCAL, None),
    ],
)
def test_both_versions_of_the_proxy_header_are_read_in_any_pieces(header: bytes, client: Any) -> None:
    request = b"GET / HTTP/1.1\r\n"
    for size in range(len(header)):
        assert may_begin(header[:size]) and read_header(header[:size]) is None
    assert read_header(header + request) == (len(header), client)
    assert not may_begin(request)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 x y z\r\n", b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 2\r\n",
        b"PROXY " + b"x" * 200, b"\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c" + bytes(12),
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x04" + bytes(4), b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + bytes(9),
    ],
)  # fmt: skip
def test_an_invalid_proxy_header_is_refused(header: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read_header(header)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_proxy_header_reader(data: bytes) -> None:
    for start in (b"", b"PROXY ", proxy_protocol._BINARY):
        try:
            found = read_header(start + data)
        except ProxyHeaderError:
            continue
        assert found is None or found[0] <= len(start + data)


async def test_only_a_trusted_proxy_may_name_its_client(tmp_path: Path) -> None:
    wrong = {"name": "ann", "password": "not this one"}
    for proxies, statuses in ((("127.0.0.1",), [401] * 3 + [429]), ((), [400] * 4)):
        folder = tmp_path / f"{len(proxies)}"
        more: dict[str, Any] = {"trusted_proxies": proxies, "rates": {"login": "3/minute"}, "registration": "open"}
        async with serving(folder, auth="", **more) as served:
            found = []
            for header in (TEXT, BINARY, TEXT, BINARY):
                connection = await served.connect()
                await connection.send(header + served.request("/v1/sessions", wrong))
                found.append((await connection.reply()).status)
                await connection.aclose()
            plain = await served.post("/v1/sessions", wrong)
        assert found == statuses and plain.status == 401, "only a trusted proxy may send the header, and it must"


@pytest.mark.parametrize("host", ["10.0.0.7", "::ffff:10.0.0.7"])
def test_an_ipv4_address_is_the_same_on_an_ipv6_socket(host: str) -> None:
    assert address_of(host) in networks(["10.0.0.0/8"])[0]


async def test_haproxy_with_the_proxy_protocol_works(tmp_path: Path) -> None:
    config = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen dialgraph
  bind 127.0.0.1:{port}
  server one 127.0.0.1:{target} send-proxy-v2
"""
    async with serving(tmp_path / "data", trusted_proxies=("127.0.0.1",)) as served:
        async with in_front("haproxy", served.port, tmp_path, config) as port:
            front = Served(served.app, port, served.server)
            reply = await front.ask()
    assert reply.status == 200


async def test_a_users_files_are_limited_and_failed_ones_expire(tmp_path: Path) -> None:
    async with serving(tmp_path, user_storage_mb=1, sample_handbook=False) as served:
        ann = await somebody(served)
        base = await ann.base()
        small = await ann.upload(base, "a.md", b"# Zebras\n\nThey are striped.")
        full = await ann.upload(base, "b.md", b"# Words\n\n" + b"word " * 210_000)
        assert small.status == 200 and full.status == 413
        job = await _failed_job(served, ann, base)
        kept = await served.state.stores.ingestion.jobs.bytes_of([await _store(served)])
        again = await ann.post(f"/v1/knowledge-bases/{base}/jobs/{job}/retry")
        done = await _done_job(served)
        refused = await ann.post(f"/v1/knowledge-bases/{base}/jobs/{done}/retry") if done else None
        assert kept > 600_000 and again.status == 202 and (refused is None or refused.status == 409)
        await _until_failed(served, job)
        await _make_old(served)
        await served.state.knowledge.expire()
        assert await served.state.stores.ingestion.jobs.get(job) is None
        assert await served.state.stores.ingestion.jobs.bytes_of([await _store(served)]) < 1000


async def _store(served: Served) -> str:
    from sqlalchemy import select

    from dialgraph.storage.tables.knowledge import JOB

    async with served.state.services.database.reading() as connection:
        return str(await connection.scalar(select(JOB.c.store)))


async def _done_job(served: Served) -> str | None:
    from sqlalchemy import select

    from dialgraph.storage.tables.knowledge import JOB

    async with served.state.services.database.reading() as connection:
        found = await connection.scalar(select(JOB.c.id).where(JOB.c.state == "done"))
    return str(found) if found else None


async def _failed_job(served: Served, ann: Any, base: str) -> str:
    from tests.support.accounts import form

    body, kind = form({}, "broken.pdf", b"%PDF-1.7 " + b"x" * 700_000)
    reply = await ann.post(f"/v1/knowledge-bases/{base}/documents", body, **{"content-type": kind})
    assert reply.status == 202, reply.body
    job: str = reply.json()["id"]
    await _until_failed(served, job)
    return job


async def _until_failed(served: Served, job: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        found = await served.state.stores.ingestion.jobs.get(job)
        if found is not None and found.state == "failed":
            return
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)


async def _make_old(served: Served) -> None:
    from sqlalchemy import update

    from dialgraph.storage.tables.knowledge import JOB

    async with served.state.services.database.transaction() as connection:
        await connection.execute(update(JOB).values(created_at=1))
