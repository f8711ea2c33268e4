"""PostgreSQL is frozen, away or at a wrong address: callers get an answer, and operators a clear message."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from server.app import create_app
from server.settings import Settings
from tests.support import postgres
from tests.support.accounts import somebody
from tests.support.server_process import serve_command
from tests.support.serving import CHAT, serving
from tests.support.upstream import upstream

pytestmark = pytest.mark.long
_GUARD_SECONDS = 20
"""Ten times as long as a caller may wait."""


@contextmanager
def frozen() -> Iterator[None]:
    """Stop every process of the PostgreSQL server with SIGSTOP: it acknowledges bytes and answers none."""
    folder = postgres.folder()
    main = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0]))
    processes = [main, *main.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGCONT)


async def test_a_frozen_database_delays_callers_by_two_seconds_and_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with upstream() as up:
        settings: dict[str, Any] = {"database_url": postgres.new_database(), "models": {"main": up.url}}
        async with serving(tmp_path, registration="open", **settings) as served:
            ann = await somebody(served)
            number = await ann.conversation()
            assert (await ann.say(number, "hi")).status == 200
            assert (await served.get("/ready")).json()["database"] == "up"
            with frozen():
                began = time.monotonic()
                others = [ann.say(number, "x") for _ in range(20)]
                refused = [await ann.say(number, "hi"), *await asyncio.gather(*others)]
                took = time.monotonic() - began
                ready = await served.get("/ready")
                endpoint = await served.post(CHAT, {"messages": [{"role": "user", "content": "hi"}], "stream": True})
            assert {reply.status for reply in refused} == {503} and took < _GUARD_SECONDS
            assert all(int(reply.headers["retry-after"]) > 0 for reply in refused)
            assert (ready.status, ready.json()["database"], ready.json()["stores"]) == (503, "down", {"main": "down"})
            assert endpoint.status == 200, "a request that needs no database must still be answered"
            for _ in range(100):
                if (await served.get("/ready")).status == 200:
                    break
                await asyncio.sleep(0.1)
            assert (await ann.say(number, "again")).status == 200
            told = [record.getMessage() for record in caplog.records if record.name == "dialgraph.storage.outage"]
    assert told.count("the database did not answer") == 1 and told.count("the database answered again") == 1


async def test_a_start_without_the_database_waits_with_one_clear_message(tmp_path: Path) -> None:
    url = postgres.new_database()
    with frozen():
        async with serve_command(tmp_path, DIALGRAPH_DATABASE_URL=url) as process:
            assert process.stderr is not None and process.stdout is not None
            line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
            os.kill(process.pid, 0)
    assert line.startswith("dialgraph: The database cannot be opened") and "as soon as it answers" in line
    async with serve_command(tmp_path, DIALGRAPH_DATABASE_URL="postgresql://u:secret@127.0.0.1:9/x") as process:
        assert process.stderr is not None
        refused = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
    assert "as soon as it answers" in refused and "secret" not in refused


async def test_a_waiting_server_starts_when_the_database_answers_again(tmp_path: Path) -> None:
    url = postgres.new_database()
    async with asyncio.timeout(100):
        with frozen():
            starting = serve_command(tmp_path, DIALGRAPH_DATABASE_URL=url)
            process = await starting.__aenter__()
            assert process.stderr is not None and process.stdout is not None
            await process.stderr.readline()
        try:
            assert b"Dialgraph on http://" in await process.stdout.readline()
        finally:
            await starting.__aexit__(None, None, None)


async def test_a_wrong_database_address_stops_the_start_with_one_line(tmp_path: Path) -> None:
    address = urlsplit(postgres.new_database())
    wrong = [
        address._replace(path="/no_such_database").geturl(),
        "postgresql://nobody:secret@" + address.geturl().split("@", 1)[1],
        "postgresql://127.0.0.1:1:2/x",
    ]
    for url in wrong:
        async with serve_command(tmp_path, DIALGRAPH_DATABASE_URL=url) as process:
            out, errors = await process.communicate()
        assert process.returncode == 1 and not out, (url, out)
        lines = errors.decode().strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("dialgraph: "), errors.decode()
        assert "secret" not in lines[0]


async def test_auth_none_is_refused_if_the_database_holds_keys(tmp_path: Path) -> None:
    url = postgres.new_database()
    async with serving(tmp_path / "first", database_url=url) as served:
        ann = await somebody(served)
        assert (await ann.post("/v1/keys", {"name": "bot"})).status == 201
    async with serve_command(tmp_path, DIALGRAPH_DATABASE_URL=url, DIALGRAPH_AUTH="none") as process:
        out, errors = await process.communicate()
    assert process.returncode == 1 and not out
    assert errors.decode().startswith("dialgraph: Setting 'auth' is 'none', but this database holds users' API keys.")
    create_app(Settings(data_dir=tmp_path, database_url=url))
