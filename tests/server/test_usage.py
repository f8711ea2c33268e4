"""Usage: every turn has its row, whole or cut, whoever asked; budgets hold, also for turns at once."""

import asyncio
import csv
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from dialgraph.storage.tables.usage import BUDGET
from tests.dialgraph.test_tools import agent
from tests.server.test_backend_api import backend
from tests.server.test_users_api import login
from tests.support.accounts import Somebody
from tests.support.serving import Served, add_graphs, serving
from tests.support.upstream import Action, calls, says, upstream

COUNTED: Action = ("usage", {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14})


def counted(*words: str) -> list[Action]:
    """A whole answer with its count."""
    return [*(("chunk", word) for word in words), ("finish", "stop"), COUNTED, ("done",)]


async def rows(who: Somebody, count: int) -> list[dict[str, Any]]:
    """The user's rows, when there are so many."""
    for _ in range(300):
        found: list[dict[str, Any]] = (await who.get("/v1/usage")).json()["data"]
        if len(found) >= count:
            assert len(found) == count
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("the rows did not come")


async def test_every_turn_has_its_row(tmp_path: Path, database: str) -> None:
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


async def test_every_pass_of_a_turn_counts(tmp_path: Path) -> None:
    first = [*calls("get_weather", '{"city":"Bonn"}')[:-1], COUNTED, ("done",)]
    async with backend(tmp_path, "sqlite:", first, counted("Dry.")) as (served, _):
        add_graphs(served.app, compiled=[agent()])
        ann, _ = await login(served)
        body = {"messages": [{"role": "user", "content": "hi"}]}
        assert (await ann.post("/agent/chat/completions", body)).status == 200
        (row,) = await rows(ann, 1)
        assert (row["passes"], row["prompt_tokens"], row["completion_tokens"]) == (2, 22, 6)


async def test_budgets_hold_for_turns_at_once(tmp_path: Path, database: str) -> None:
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
        assert len(up.exchanges) == 4, "what is refused costs nothing"
        used = sum(row["prompt_tokens"] + row["completion_tokens"] for row in await rows(ann, 4))
        async with served.state.services.database.reading() as connection:
            assert await connection.scalar(select(BUDGET.c.tokens)) == used > 0, (
                "charged with what was used, and no more"
            )
        assert (await bot.post("/v1/chat/completions", body)).status == 200, "what was not used is there again"
        assert (await ann.post("/v1/chat/completions", body)).status == 200, "a login has no budget of a key"


@pytest.mark.parametrize("one", ["max_tokens", "max_completion_tokens"])
async def test_the_larger_of_two_bounds_is_what_a_budget_is_charged(one: str, tmp_path: Path) -> None:
    async with backend(tmp_path, "sqlite:") as (served, up):
        ann, _ = await login(served)
        key = (await ann.post("/v1/keys", {"name": "bot", "scopes": ["chat"], "token_budget": 1000})).json()["key"]
        other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}[one]
        body = {"messages": [{"role": "user", "content": "hi"}], one: 1, other: 100_000}
        assert (await Somebody(served, key).post("/v1/chat/completions", body)).error["code"] == "budget_exceeded"
        assert not up.exchanges


async def test_a_user_has_a_budget_over_all_keys(tmp_path: Path) -> None:
    async with backend(tmp_path, "sqlite:", counted("Hi."), user_token_budget=60) as (served, _):
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {})).json()["id"]
        path = f"/v1/conversations/{chat}/messages"
        assert (await ann.post(path, {"content": "hi"})).error["code"] == "budget_exceeded"
        assert (await ann.get(path)).json()["data"] == [], "a turn that was refused was not begun"
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
        assert (await ann.post("/v1/chat/completions", body)).status == 200


async def test_a_server_that_cannot_count_is_asked_without(tmp_path: Path) -> None:
    refusal: list[Action] = [("status", 400, {}, b'{"error": {"message": "unknown field: stream_options"}}')]
    async with (
        upstream(refusal, says("Hi."), says("Hi again.")) as up,
        serving(tmp_path, models={"main": up.url}) as served,
    ):
        assert (await ask(served)) == "Hi." and (await ask(served)) == "Hi again."
    assert ["stream_options" in body for body in up.bodies] == [True, False, False]


async def ask(served: Served) -> str:
    """The answer to a question."""
    body = {"messages": [{"role": "user", "content": "hi"}]}
    content: str = (await served.post("/v1/chat/completions", body)).json()["choices"][0]["message"]["content"]
    return content
