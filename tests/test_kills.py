"""Kills: what was told is kept, and no turn is half there. Long, so in `make soak`; a few in `make test-all`."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from accounts.hashing import hash_of
from graphs.settings import ROOT
from tests.accounts import PASSWORD
from tests.upstream import Action, upstream

REPORT = os.environ.get("KILLS_REPORT", "")
"""A file to which the long runs write what they found."""


def rows_of(folder: Path) -> dict[str, tuple[str, int, str, str]]:
    """Every turn of the database, by its id; the database is whole."""
    with sqlite3.connect(folder / "dialgraph.db") as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = plain.execute("SELECT id, conversation_id, position, state, answer FROM conversation_turn").fetchall()
    plain.close()
    return {row[0]: row[1:] for row in found}


def check(folder: Path, lines: list[str]) -> int:
    """Hold the database against what was promised. Returns how many promises there were."""
    rows = rows_of(folder)
    told = 0
    for line in lines:
        kind, turn, chat, position, *rest = line.split()
        assert turn in rows, f"a turn that was {kind} is gone"
        assert rows[turn][:2] == (chat, int(position))
        if kind == "told":
            told += 1
            assert rows[turn][2] == rest[0] and hash_of(rows[turn][3]) == rest[1], "what was told is not what is kept"
    places = sorted((row[0], row[1]) for row in rows.values())
    for one, following in pairwise(places):
        wanted = one[1] + 1 if one[0] == following[0] else 1
        assert following[1] == wanted, "a place is empty, or taken twice"
    return told


def kill_the_store(folder: Path, times: int) -> tuple[int, int]:
    """Let a process keep turns and kill it, again and again. Returns the kills, and the turns that were told."""
    dice = random.Random(5)
    lines: list[str] = []
    for _ in range(times):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.storing", str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(dice.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        lines += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        process.stdout.close()
        process.wait()
    return times, check(folder, [line.strip() for line in lines])


@pytest.mark.long
def test_ten_kills_of_the_store_lose_nothing(tmp_path: Path) -> None:
    _, told = kill_the_store(tmp_path, 10)
    assert told > 0


@pytest.mark.soak
def test_a_thousand_kills_of_the_store_lose_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    kills, told = kill_the_store(tmp_path, 1000)
    assert told > 1000
    report(f"store: {kills} × kill -9, {told} turns told, 0 lost, 0 half, in {time.monotonic() - began:.0f} s")


class Server:
    """A server process on one folder, killed and started again."""

    def __init__(
        self, folder: Path, model: str, errors: Path | None = None, under: Sequence[str] = (), **more: Any
    ) -> None:
        self._folder = folder
        self._under = under
        self._errors = errors
        settings = {"models": {"main": model}, "upstreams": {"gpt": model}, "rates": dict.fromkeys(RATES, ""), **more}
        variables = {
            f"DIALGRAPH_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in settings.items()
        }
        self._environment = {**os.environ, **variables, "DIALGRAPH_DATA_DIR": str(folder), "PYTHONPATH": str(ROOT)}
        self._environment |= {"DIALGRAPH_USER_STREAMS": "0", "DIALGRAPH_SAMPLE_HANDBOOK": "false"}
        self.port = 0
        self.process: asyncio.subprocess.Process | None = None

    def more(self, **variables: str) -> None:
        """What else the next start finds in its environment; PYTHONPATH is put before ours."""
        ours = self._environment["PYTHONPATH"]
        if "PYTHONPATH" in variables:
            variables["PYTHONPATH"] += os.pathsep + ours
        self._environment |= variables

    async def start(self) -> float:
        """Start it. Returns after how many seconds it was ready."""
        began = time.monotonic()
        errors = self._errors.open("ab") if self._errors else None
        self.process = await asyncio.create_subprocess_exec(
            *self._under, sys.executable, "-m", "server.cli", "serve", "--port", "0",
            cwd=self._folder, env=self._environment,
            stdout=asyncio.subprocess.PIPE, stderr=errors or asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if errors is not None:
            errors.close()
        assert self.process.stdout is not None
        first = (await self.process.stdout.readline()).decode()
        assert " on http://127.0.0.1:" in first, first
        self.port = int(first.split(" on ")[1].split(" ")[0].rsplit(":", 1)[1])
        while True:
            try:
                status, _ = await self.ask("GET", "/ready")
            except OSError:
                status = 0
            if status == 200:
                return time.monotonic() - began
            assert time.monotonic() - began < 30 and self.process.returncode is None
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """As if the machine had lost it."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def ask(
        self, method: str, path: str, body: Any = None, token: str = "", kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """One request, whole."""
        writer, reader = await self.open(method, path, body, token, kind)
        try:
            data = await reader.read()
        finally:
            await close(writer)
        head, _, rest = data.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), rest

    async def open(
        self, method: str, path: str, body: Any = None, token: str = "", kind: str = "application/json"
    ) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
        """A request whose reply is still to be read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n"
        head += f"Content-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
        head += f"Authorization: Bearer {token}\r\n" if token else ""
        writer.write(head.encode() + b"\r\n" + data)
        await writer.drain()
        return writer, reader


async def close(writer: asyncio.StreamWriter) -> None:
    """Leave, also where nobody is there any more."""
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


RATES = ("login", "login_address", "register", "turn", "upload", "request")


async def talk(server: Server, token: str, number: int, ledger: list[tuple[int, str, str]], name: str) -> None:
    """Turn after turn, until the server is gone; the ledger holds what was told, and whether to its end."""
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
    """Talk, kill, start again and look. Returns figures."""
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
                        assert said.count(("user", question)) == 1, "a turn that was told is gone, or there twice"
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
async def test_five_kills_of_the_server_under_talking_clients(tmp_path: Path) -> None:
    figures = await kill_the_server(tmp_path, 5, 20)
    assert figures["told"] > 20 and figures["slowest start"] < 6


@pytest.mark.soak
async def test_a_hundred_kills_of_the_server_under_talking_clients(tmp_path: Path) -> None:
    figures = await kill_the_server(tmp_path, 100, 20)
    report("server: " + ", ".join(f"{name} {value:.1f}" for name, value in figures.items()) + "; 0 lost, 0 half")


def report(line: str) -> None:
    """Write it where the run was told to."""
    if REPORT:
        with Path(REPORT).open("a", encoding="utf-8") as file:
            file.write(f"- {line}\n")
