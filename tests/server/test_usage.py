"""Usage: every turn has a row, complete or cut. Budgets also hold for turns that run at the same time."""

import asyncio
import csv
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dialgraph.storage.database import Database
from dialgraph.storage.tables.usage import BUDGET
from server.turns.ledger import Entry, Ledger
from tests.dialgraph.test_tools import agent
from tests.server.test_backend_api import backend
from tests.server.test_users_api import login
from tests.support.accounts import Somebody
from tests.support.serving import Served, add_graphs, serving
from tests.support.upstream import Action, calls, says, upstream

COUNTED: Action = ("usage", {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14})


def counted(*words: str) -> list[Action]:
    """Return a complete answer with its token counts."""
    return [*(("chunk", word) for word in words), ("finish", "stop"), COUNTED, ("done",)]


async def rows(who: Somebody, count: int) -> list[dict[str, Any]]:
    """Wait until the user has this many rows; return them."""
    for _ in range(300):
        found: list[dict[str, Any]] = (await who.get("/v1/usage")).json()["data"]
        if len(found) >= count:
            assert len(found) == count
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("the rows did not appear")


async def test_every_turn_has_a_usage_row(tmp_path: Path, database: str) -> None:
    cut = [("chunk", "One two three four"), ("hang",)]
    scripts = [counted("Hi."), counted("Hello."), cut, [("chunk", "Half"), ("fin",)], says("No count.")]
    async with backend(tmp_path, database, *scripts) as (served, _):
        ann, _ = await login(served)
        made = (await ann.post("/v1/keys", {"name": "bot", "scopes": ["chat"]})).json()
        bot = Somebody(served, made["key"])
        body = {"messages": [{"role": "user", "content": "x" * 400}], "stream": True, "model": "gpt-9"}
        await bot.post("/v1/chat/completions", body, **{"x-call-id": "call-7", "x-turn-id": "turn-3"})
        chat = (await ann.post("/v1/conversations", {})).json()["id"]
        await ann.post(f"/v1/conversations/{chat}/messages", {"content": "hi"})
        connection = await served.connect()
        await connection.send(served.request("/v1/chat/completions", body, bot.headers))
        await connection.head()
        while b"four" not in await connection.chunk():
            pass
        await connection.aclose()
        await rows(ann, 3)
        await bot.post("/v1/chat/completions", body)
        await bot.post("/v1/chat/completions", body)
        told = await rows(ann, 5)
        keys = ["outcome", "passes", "prompt_tokens", "completion_tokens", "estimated"]
        assert [[row[key] for key in keys] for row in told] == [
            ["complete", 1, 11, 3, False],
            ["complete", 1, 11, 3, False],
            ["cancelled", 1, 104, 4, True],
            ["error:upstream_incomplete", 1, 104, 1, True],
            ["complete", 1, 104, 2, True],
        ]
        assert (told[0]["endpoint"], told[0]["model"], told[0]["call_id"], told[0]["turn_id"], told[0]["key_id"]) == (
            "chat", "gpt-9", "call-7", "turn-3", made["id"],
        )  # fmt: skip
        assert told[1]["call_id"] == chat and told[1]["key_id"] is None
        sheet = list(csv.DictReader((await ann.get("/v1/usage.csv")).body.decode().splitlines()))
        assert [row["outcome"] for row in sheet] == [row["outcome"] for row in told]
        assert (await ann.get("/v1/usage?limit=2")).json()["next_cursor"]
        bob, _ = await login(served, "bob")
        assert (await bob.get("/v1/usage")).json()["data"] == []
        assert (await bot.get("/v1/usage")).status == 403


async def test_a_turn_counts_the_tokens_of_all_its_passes(tmp_path: Path) -> None:
    first = [*calls("get_weather", '{"city":"Bonn"}')[:-1], COUNTED, ("done",)]
    async with backend(tmp_path, "sqlite:", first, counted("Dry.")) as (served, _):
        add_graphs(served.app, compiled=[agent()])
        ann, _ = await login(served)
        body = {"messages": [{"role": "user", "content": "hi"}]}
        assert (await ann.post("/agent/chat/completions", body)).status == 200
        (row,) = await rows(ann, 1)
        assert (row["passes"], row["prompt_tokens"], row["completion_tokens"]) == (2, 22, 6)


async def test_a_budget_holds_for_turns_at_the_same_time(tmp_path: Path, database: str) -> None:
    slow = [("sleep", 0.3), ("chunk", "word"), ("finish", "stop"), COUNTED, ("done",)]
    async with backend(tmp_path, database, *[slow] * 30) as (served, up):
        ann, _ = await login(served)
        key = (await ann.post("/v1/keys", {"name": "bot", "scopes": ["chat"], "token_budget": 1000})).json()["key"]
        bot = Somebody(served, key)
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 200}
        replies = await asyncio.gather(*(bot.post("/v1/chat/completions", body) for _ in range(12)))
        statuses = [reply.status for reply in replies]
        assert statuses.count(200) == 4 and statuses.count(429) == 8, "4 × (200 and the prompt) fit into 1000"
        refused = next(reply for reply in replies if reply.status == 429)
        assert refused.error["code"] == "budget_exceeded" and int(refused.headers["retry-after"]) > 0
        assert len(up.exchanges) == 4, "a refused turn asks no model"
        used = sum(row["prompt_tokens"] + row["completion_tokens"] for row in await rows(ann, 4))
        async with served.state.services.database.reading() as connection:
            assert await connection.scalar(select(BUDGET.c.tokens)) == used > 0, (
                "the budget is charged with the tokens used, and no more"
            )
        assert (await bot.post("/v1/chat/completions", body)).status == 200, "unused tokens go back to the budget"
        assert (await ann.post("/v1/chat/completions", body)).status == 200, (
            "the budget of a key does not limit a login"
        )


@pytest.mark.parametrize("one", ["max_tokens", "max_completion_tokens"])
async def test_a_budget_is_charged_the_larger_of_two_limits(one: str, tmp_path: Path) -> None:
    async with backend(tmp_path, "sqlite:") as (served, up):
        ann, _ = await login(served)
        key = (await ann.post("/v1/keys", {"name": "bot", "scopes": ["chat"], "token_budget": 1000})).json()["key"]
        other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}[one]
        body = {"messages": [{"role": "user", "content": "hi"}], one: 1, other: 100_000}
        assert (await Somebody(served, key).post("/v1/chat/completions", body)).error["code"] == "budget_exceeded"
        assert not up.exchanges


async def test_a_users_budget_covers_all_their_keys(tmp_path: Path) -> None:
    async with backend(tmp_path, "sqlite:", counted("Hi."), user_token_budget=60) as (served, _):
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {})).json()["id"]
        path = f"/v1/conversations/{chat}/messages"
        assert (await ann.post(path, {"content": "hi"})).error["code"] == "budget_exceeded"
        assert (await ann.get(path)).json()["data"] == [], "a refused turn is not stored"
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
        assert (await ann.post("/v1/chat/completions", body)).status == 200


async def test_an_upstream_that_refuses_stream_options_is_asked_without_them(tmp_path: Path) -> None:
    refusal: list[Action] = [("status", 400, {}, b'{"error": {"message": "unknown field: stream_options"}}')]
    async with (
        upstream(refusal, says("Hi."), says("Hi again.")) as up,
        serving(tmp_path, models={"main": up.url}) as served,
    ):
        assert (await ask(served)) == "Hi." and (await ask(served)) == "Hi again."
    assert ["stream_options" in body for body in up.bodies] == [True, False, False]


async def ask(served: Served) -> str:
    """Ask a question; return the answer."""
    body = {"messages": [{"role": "user", "content": "hi"}]}
    content: str = (await served.post("/v1/chat/completions", body)).json()["choices"][0]["message"]["content"]
    return content


async def test_two_writes_at_the_same_time_write_each_row_once(tmp_path: Path, database: str) -> None:
    store = Database(database, tmp_path)
    ledger = Ledger(store, 0)
    counts: dict[str, Any] = {
        "passes": 1,
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "first_word_ms": 1,
        "total_ms": 1,
    }
    names: dict[str, Any] = {
        "principal": "k",
        "endpoint": "chat",
        "call_id": "",
        "turn_id": "",
        "model": "m",
        "outcome": "complete",
    }
    for at in range(3):
        entry = Entry(f"turn-{at}", user_id="ann", key_id=None, estimated=False, created_at=at, **counts, **names)
        ledger.add(entry)
    await asyncio.gather(*(ledger.write() for _ in range(3)))
    rows = await ledger.of_user("ann", 0, 10, 10)
    await store.aclose()
    assert [row.id for row in rows] == ["turn-0", "turn-1", "turn-2"]
