"""Killed processes: confirmed turns stay and no turn is half stored. Long runs: `make soak`; short: `make test-all`."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from dialgraph.project import ROOT
from dialgraph.users.accounts.key_hash import hash_of
from tests.support.accounts import PASSWORD
from tests.support.server_process import Server, close
from tests.support.upstream import Action, upstream

REPORT = os.environ.get("KILLS_REPORT", "")
"""The file to which the long runs write their results."""


_TURNS = "SELECT id, conversation_id, position, state, answer FROM conversation_turn"


def rows_of(folder: Path, database: str = "sqlite:") -> dict[str, tuple[str, int, str, str]]:
    """Return every turn in the database, by its id. Check that the database is intact."""
    if database != "sqlite:":
        with psycopg.connect(database) as connection:
            return {row[0]: row[1:] for row in connection.execute(_TURNS).fetchall()}
    with sqlite3.connect(folder / "dialgraph.db") as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = plain.execute(_TURNS).fetchall()
    plain.close()
    return {row[0]: row[1:] for row in found}


def check(folder: Path, lines: list[str], database: str = "sqlite:") -> int:
    """Check the database against the lines that a process printed. Return the number of turns confirmed as ended."""
    rows = rows_of(folder, database)
    told = 0
    for line in lines:
        kind, turn, chat, position, *rest = line.split()
        assert turn in rows, f"a turn is missing that was printed as {kind!r}"
        assert rows[turn][:2] == (chat, int(position))
        if kind == "told":
            told += 1
            assert rows[turn][2] == rest[0] and hash_of(rows[turn][3]) == rest[1], (
                "the stored answer differs from the confirmed one"
            )
    check_places(rows)
    return told


def check_places(rows: dict[str, tuple[str, int, str, str]]) -> None:
    """Check that the positions of each conversation's turns are 1, 2, 3 and so on."""
    places = sorted((row[0], row[1]) for row in rows.values())
    for one, following in pairwise([("", 0), *places]):
        wanted = one[1] + 1 if one[0] == following[0] else 1
        assert following[1] == wanted, "a position is missing or used twice"


def kill_the_store(folder: Path, times: int, database: str = "sqlite:") -> tuple[int, int]:
    """Run a process that stores turns and kill it, many times. Return the number of kills and of confirmed turns."""
    dice = random.Random(5)
    lines: list[str] = []
    for _ in range(times):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.storing", str(folder), database],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(dice.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        lines += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.stdout.close()
        process.wait()
    return times, check(folder, [line.strip() for line in lines], database)


@pytest.mark.long
def test_ten_kills_lose_no_confirmed_turn(tmp_path: Path, database: str) -> None:
    _, told = kill_the_store(tmp_path, 10, database)
    assert told > 0


@pytest.mark.soak
def test_a_thousand_kills_lose_no_confirmed_turn(tmp_path: Path, database: str) -> None:
    began = time.monotonic()
    kills, told = kill_the_store(tmp_path, 1000, database)
    assert told > 1000
    where, took = database.partition(":")[0], time.monotonic() - began
    report(f"store on {where}: {kills} × kill -9, {told} turns confirmed, 0 lost, 0 half stored in {took:.0f} s")


async def talk(server: Server, token: str, number: int, ledger: list[tuple[int, str, str]], name: str) -> None:
    """Send turns until the server is gone. Write to the ledger what each turn returned and whether it ended."""
    at = 0
    while True:
        at += 1
        question = f"{name}-{at}"
        heard, state = "", "begun"
        try:
            writer, reader = await server.open("POST", f"/api/chat/{number}", {"message": question}, token)
            try:
                while line := await reader.readline():
                    if line.startswith(b"data: "):
                        event = json.loads(line[6:])
                        heard += event["data"] if event["event"] == "message" else ""
                        state = "complete" if event["event"] == "done" else state
            finally:
                await close(writer)
        except (OSError, ValueError):
            return
        finally:
            ledger.append((number, question, f"{state}:{heard}"))
        if state != "complete":
            return


async def kill_the_server(folder: Path, times: int, talking: int) -> dict[str, float]:
    """Talk to the server, kill it, start it again and check the conversations. Return the figures."""
    dice = random.Random(11)
    words: list[Action] = [("chunk", "word "), ("sleep", 0.01)] * 12
    figures = {"kills": 0.0, "told": 0.0, "cut": 0.0, "slowest start": 0.0}
    async with upstream(default=[*words, ("finish", "stop"), ("done",)]) as up:
        server = Server(folder, up.url)
        await server.start()
        for path in ("register", "login"):
            _, body = await server.ask("POST", f"/api/users/{path}", {"username": "ann", "password": PASSWORD})
        token = json.loads(body)["token"]
        numbers = []
        for _ in range(talking):
            status, body = await server.ask("POST", "/api/conversations/create", {"title": "x", "model": "m"}, token)
            assert status == 200, body
            numbers.append(json.loads(body)["conversation_id"])
        for kill in range(times):
            ledger: list[tuple[int, str, str]] = []
            clients = [
                asyncio.create_task(talk(server, token, number, ledger, f"{kill}-{number}")) for number in numbers
            ]
            await asyncio.sleep(0.3 + dice.random() * 1.2)
            await server.kill()
            await asyncio.gather(*clients)
            figures["slowest start"] = max(figures["slowest start"], await server.start())
            figures["kills"] += 1
            for number in numbers:
                status, body = await server.ask("GET", f"/api/conversations/history/{number}", None, token)
                assert status == 200, body
                said = [(message["role"], message["content"]) for message in json.loads(body)["messages"]]
                mine = [(question, told) for owner, question, told in ledger if owner == number]
                for question, told in mine:
                    state, _, heard = told.partition(":")
                    if state == "complete":
                        figures["told"] += 1
                        assert said.count(("user", question)) == 1, "a confirmed turn is missing or stored twice"
                        assert said[said.index(("user", question)) + 1] == ("assistant", heard)
                    else:
                        figures["cut"] += 1
                        assert said.count(("user", question)) <= 1
        await server.kill()
    rows = rows_of(folder)
    assert {row[2] for row in rows.values()} <= {"complete", "interrupted", "open", "failed"}
    return figures


@pytest.mark.long
@pytest.mark.timeout(200)
async def test_five_server_kills_during_calls_lose_no_confirmed_turn(tmp_path: Path) -> None:
    figures = await kill_the_server(tmp_path, 5, 20)
    assert figures["told"] > 20 and figures["slowest start"] < 6


@pytest.mark.soak
async def test_a_hundred_server_kills_during_calls_lose_no_confirmed_turn(tmp_path: Path) -> None:
    figures = await kill_the_server(tmp_path, 100, 20)
    report("server: " + ", ".join(f"{name} {value:.1f}" for name, value in figures.items()) + "; 0 lost, 0 half stored")


def report(line: str) -> None:
    """Append a line to the file that KILLS_REPORT names, if there is one."""
    if REPORT:
        with Path(REPORT).open("a", encoding="utf-8") as file:
            file.write(f"- {line}\n")
