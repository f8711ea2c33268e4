"""A database that is full, damaged, away or busy: the server reports it and never silently starts with an empty one."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event

from dialgraph.project import ROOT
from dialgraph.storage.database import Database
from dialgraph.storage.errors import DatabaseAwayError, DatabaseError
from dialgraph.storage.sqlite import LARGEST_JOURNAL_BYTES
from knowledge.ingest.jobs import Jobs
from tests.server.test_backend_api import backend
from tests.server.test_settings import run
from tests.server.test_users_api import login
from tests.support.accounts import answer, somebody
from tests.support.postgres import new_database
from tests.support.upstream import says


def _small(connection: Any, record: object) -> None:
    """Limit the database to 160 pages. When they are full, SQLite reports the error of a full disk."""
    connection.execute("PRAGMA max_page_count=160").close()


async def test_a_full_disk_is_reported_and_reading_still_works(tmp_path: Path) -> None:
    event.listen(Engine, "connect", _small)
    try:
        async with backend(tmp_path, "sqlite:", says("Hello."), sample_handbook=False) as (served, up):
            up.default = says("x" * 20_000)
            ann = await somebody(served)
            number = await ann.conversation()
            assert answer(await ann.say(number, "hi")) == "Hello."
            replies = [await ann.say(number, f"{at} " + "y" * 20_000) for at in range(20)]
            statuses = {reply.status for reply in replies}
            assert 507 in statuses and statuses <= {200, 507}, statuses
            refused = next(reply for reply in replies if reply.status == 507)
            assert refused.json() == {"error": "The server has no room left"}
            assert (await ann.history(number))[1] == ("assistant", "Hello."), "what was stored can be read"
            assert (
                await served.post("/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})
            ).status == 200
            assert (await ann.post(f"/api/conversations/del/{number}")).status == 200, "deleting works on a full disk"
            up.default = says("Good.")
            assert answer(await ann.say(await ann.conversation(), "and again")) == "Good."
    finally:
        event.remove(Engine, "connect", _small)
    with sqlite3.connect(tmp_path / "dialgraph.db") as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()


@pytest.mark.long
@pytest.mark.parametrize("damage", ["no database", "a flipped page", "half of it", "a folder"])
def test_a_damaged_database_stops_the_start(damage: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = run("user", "create", "ann", given="correct horse battery\n", DIALGRAPH_DATA_DIR=str(data))
    assert made.returncode == 0, made.stderr
    file = data / "dialgraph.db"
    content = file.read_bytes()
    match damage:
        case "no database":
            file.write_bytes(b"this is no database, but it is long enough to look like one" * 100)
        case "a flipped page":
            file.write_bytes(content[:16] + bytes(84) + content[100:])
        case "half of it":
            file.write_bytes(content[: len(content) // 2])
        case _:
            file.unlink()
            file.mkdir()
    for leftover in data.glob("dialgraph.db-*"):
        leftover.unlink()
    stopped = run("user", "list", DIALGRAPH_DATA_DIR=str(data))
    assert stopped.returncode == 1 and "ann" not in stopped.stdout
    assert (
        stopped.stderr.startswith("dialgraph: The database 'dialgraph.db' cannot be opened: ")
        and len(stopped.stderr.splitlines()) == 1
    ), stopped.stderr


async def test_many_writers_never_find_the_database_locked(tmp_path: Path) -> None:
    async with backend(tmp_path, "sqlite:", rates={"turn": "", "request": ""}, user_streams=0) as (served, _):
        ann, _ = await login(served)
        chats = [(await ann.post("/v1/conversations", {})).json()["id"] for _ in range(16)]

        async def write(chat: str) -> list[int]:
            return [
                (await ann.post(f"/v1/conversations/{chat}/messages", {"content": f"{at}"})).status for at in range(6)
            ]

        statuses = await asyncio.gather(*(write(chat) for chat in chats))
        assert {status for some in statuses for status in some} == {200}
        for chat in chats:
            told = (await ann.get(f"/v1/conversations/{chat}/messages")).json()["data"]
            assert [one["content"] for one in told[::2]] == [f"{at}" for at in range(6)]


@pytest.mark.long
async def test_the_server_recovers_when_postgresql_accepts_connections_again(tmp_path: Path) -> None:
    url = new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    async with backend(tmp_path, url) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        answer(await ann.say(number, "hi"))
        admin: dict[str, Any] = {"conninfo": url.replace(f"/{name}?", "/postgres?"), "autocommit": True}
        with psycopg.connect(**admin) as connection:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            replies = [await ann.say(number, "hi") for _ in range(3)]
            assert {reply.status for reply in replies} <= {503}, [reply.body for reply in replies]
            assert all(reply.headers["retry-after"] for reply in replies)
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        for _ in range(50):
            if (reply := await ann.say(number, "again")).status == 200:
                break
            await asyncio.sleep(0.1)
        assert answer(reply) == "Hello there."


async def test_killed_database_connections_are_replaced(tmp_path: Path) -> None:
    url = new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    async with backend(tmp_path, url) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        for round_ in range(5):
            answer(await ann.say(number, f"{round_}"))
            with psycopg.connect(url.replace(f"/{name}?", "/postgres?"), autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            for _ in range(20):
                reply = await ann.get("/api/conversations/list")
                assert reply.status in (200, 503)
                if reply.status == 200:
                    break
            assert reply.status == 200
        assert len(await ann.history(number)) == 10


async def test_a_journal_that_cannot_restart_is_reported_and_shrinks_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database("sqlite:", tmp_path)
    jobs = Jobs(database)
    journal = tmp_path / "dialgraph.db-wal"
    await database.open()
    with sqlite3.connect(tmp_path / "dialgraph.db", isolation_level=None) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM knowledge_job").fetchone()
        for at in range(LARGEST_JOURNAL_BYTES // 2**20 + 4):
            await jobs.submit("main", f"{at}.txt", b"x" * 2**20)
        assert journal.stat().st_size > LARGEST_JOURNAL_BYTES
        await database.watch_journal()
        assert "the database's journal grew" in caplog.text
        reader.execute("COMMIT")
    reader.close()
    for at in range(3):
        await jobs.submit("main", f"late {at}.txt", b"x")
    assert journal.stat().st_size <= LARGEST_JOURNAL_BYTES
    caplog.clear()
    await database.watch_journal()
    assert not caplog.text
    await database.aclose()


async def test_a_database_that_cannot_be_opened_raises_an_error(tmp_path: Path) -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none", tmp_path)
    with pytest.raises(DatabaseError, match="The database cannot be opened"):
        async with database.reading():
            pass
    await database.aclose()
    assert issubclass(DatabaseAwayError, DatabaseError)


def test_a_database_with_nothing_to_migrate_is_opened_without_alembic(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys; from dialgraph.storage.database import Database;"
        f"Database('sqlite:', pathlib.Path({str(tmp_path)!r})).prepare(); print('alembic' in sys.modules)"
    )
    told = [
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert told == ["True\n", "False\n"]
