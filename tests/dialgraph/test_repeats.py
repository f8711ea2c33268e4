"""The same request is repeated while the server is killed: one turn, one answer, paid once."""

import asyncio
import json
import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import PASSWORD
from tests.support.server_process import Server
from tests.support.upstream import Action, upstream
from tests.whole.test_kills import report

CLIENTS = 20


async def repeat(folder: Path, keys: int) -> dict[str, int]:
    """Send each key two to five times, until each request is answered, and kill the server in between.

    Return the counts.
    """
    dice = random.Random(2)
    asked: Counter[str] = Counter()
    answers: dict[str, list[tuple[str, str]]] = defaultdict(list)
    paid: dict[str, int] = {}
    kills = 0

    def answer(body: dict[str, Any]) -> Sequence[Action]:
        question = body["messages"][-1]["content"].rpartition("\n")[2]
        asked[question] += 1
        words: list[Action] = [("chunk", f"{question} #{asked[question]} "), ("sleep", 0.02)]
        return [*words, *[("chunk", "on "), ("sleep", 0.01)] * 3, ("finish", "stop"), ("done",)]

    async with upstream() as up:
        up.choose = answer
        server = Server(folder, up.url)
        await server.start()
        credentials = {"name": "ann", "password": PASSWORD}
        await server.ask("POST", "/v1/users", credentials)
        token = json.loads((await server.ask("POST", "/v1/sessions", credentials))[1])["access_token"]
        chats = [
            json.loads((await server.ask("POST", "/v1/conversations", {}, token))[1])["id"] for _ in range(CLIENTS)
        ]

        async def client(number: int) -> None:
            path = f"/v1/conversations/{chats[number]}/messages"
            for at in range(keys // CLIENTS):
                key = f"key-{number}-{at}"
                for _ in range(dice.randrange(2, 6)):
                    while True:
                        try:
                            status, body = await server.ask("POST", path, {"content": key}, token, idempotency_key=key)
                            told = json.loads(body)
                        except (OSError, ValueError, IndexError):  # the server was killed during the request
                            await asyncio.sleep(0.1)
                            continue
                        if status == 200:
                            break
                        assert status in (409, 503), body
                        await asyncio.sleep(0.1)
                    answers[key].append((told["id"], told["choices"][0]["message"]["content"]))
                    paid.setdefault(key, asked[key])

        clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
        while not all(task.done() for task in clients):
            await asyncio.wait(clients, timeout=0.2 + dice.random(), return_when=asyncio.ALL_COMPLETED)
            if not all(task.done() for task in clients):
                await server.kill()
                kills += 1
                await server.start()
        await asyncio.gather(*clients)
        await server.kill()
    with sqlite3.connect(folder / "dialgraph.db") as plain:
        rows = plain.execute("SELECT request_key, question, answer, state FROM conversation_turn").fetchall()
    plain.close()
    assert Counter(row[0] for row in rows) == Counter(answers.keys()), "one turn per key"
    for key, question, said, state in rows:
        assert question == key and state == "complete"
        assert {text for _, text in answers[key]} == {said}, "every repeat must get the same answer"
        assert len({number for number, _ in answers[key]}) == 1, "every repeat must get the same id"
        assert asked[key] == paid[key], "the model must not be asked again after the answer"
    return {"keys": len(rows), "answers": sum(map(len, answers.values())), "kills": kills, "asked": asked.total()}


@pytest.mark.long
async def test_repeated_requests_run_once_while_the_server_is_killed(tmp_path: Path) -> None:
    figures = await repeat(tmp_path, 200)
    assert figures["kills"] > 0 and figures["answers"] >= 400


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_a_thousand_repeated_requests_run_once_while_the_server_is_killed(tmp_path: Path) -> None:
    figures = await repeat(tmp_path, 1000)
    report("repeats: " + ", ".join(f"{name} {value}" for name, value in figures.items()) + "; one turn per key")
