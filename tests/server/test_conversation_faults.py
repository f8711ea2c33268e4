"""Faults of conversations that once happened. Each test holds what a user sees now."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text as sql

from dialgraph.graph.policy import Policy
from dialgraph.graph.spec import Graph, Step
from dialgraph.users.conversations.turns import BegunTurn
from dialgraph.users.conversations.values import UnknownConversationError
from tests.server.test_backend_api import backend, files_with
from tests.server.test_turn_faults import listen, words
from tests.server.test_users_api import delete, login
from tests.support.accounts import answer, somebody
from tests.support.serving import serving
from tests.support.upstream import Action, says, upstream


async def test_an_answer_with_a_nul_character_harms_no_other_turn(tmp_path: Path, database: str) -> None:
    script: list[Action] = [("chunk", "bad \0 word"), ("sleep", 1.5), ("finish", "stop"), ("done",)]
    async with backend(tmp_path, database, script, words(300)) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        assert "bad" in answer(await ann.say(number, "hi \0"))
        assert await ann.history(number) == [("user", "hi "), ("assistant", "bad  word")]
        other = await ann.conversation()
        connection, heard = await listen(ann, other, "Count", 20)
        await asyncio.sleep(1.2)
        user = (await served.state.accounts.users.known("john_doe")).id
        (turn,) = await served.state.conversations.turns(user, other)
        assert turn.state == "open" and turn.answer.startswith(heard[:20]), (
            "other turns are still stored while they run"
        )
        connection.reset()


async def test_a_fallback_after_a_failure_is_stored_as_it_was_heard(tmp_path: Path) -> None:
    policy = Policy(on_failure="speak", fallback={"en": "Sorry."})
    graph = Graph(name="polite", policy=policy, steps=(Step("call_model"),))
    half: list[Action] = [("chunk", "Half a "), ("fin",)]
    async with upstream(half, half, says("Whole.")) as up:
        async with serving(tmp_path, (graph, []), models={"main": up.url}) as served:
            ann, _ = await login(served)
            for streaming in (True, False):
                chat = (await ann.post("/v1/conversations", {"graph": "polite"})).json()["id"]
                header = {"x-dialgraph-conversation": chat, "idempotency-key": "a"}
                body = {"messages": [{"role": "user", "content": "hi"}], "stream": streaming}
                heard = (await ann.post("/polite/chat/completions", body, **header)).body.decode()
                assert "Sorry" in heard
                told = (await ann.get(f"/v1/conversations/{chat}/messages")).json()["data"]
                assert told[1]["content"].split() == ["Half", "a", "Sorry."] and told[1]["state"] == "failed"
            again = (await ann.post("/polite/chat/completions", body, **header)).json()
            assert again["choices"][0]["message"]["content"] == "Whole.", "a failed turn runs again"


async def test_the_words_of_an_audio_answer_are_stored(tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {"graph": "audio"})).json()["id"]
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        header = {"x-dialgraph-conversation": chat}
        await ann.post("/audio/chat/completions", body, **header)
        told = (await ann.get(f"/v1/conversations/{chat}/messages")).json()["data"]
        assert told[1]["content"] == "Hello there."


async def test_a_client_that_left_while_it_waited_gets_no_turn(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database, words(30), says("Now.")) as (served, up):
        ann = await somebody(served)
        number = await ann.conversation()
        first = asyncio.create_task(ann.say(number, "One"))
        await up.until(lambda: bool(up.exchanges))
        for _ in range(3):
            connection = await served.connect()
            await connection.send(served.request(f"/api/chat/{number}", {"message": "left"}, ann.headers))
            await asyncio.sleep(0.05)
            await connection.aclose()
        answer(await first)
        assert answer(await ann.say(number, "now")) == "Now."
        await up.until(lambda: not served.server.server_state.tasks)
        assert [text for role, text in await ann.history(number) if role == "user"] == ["One", "now"]


async def test_retrying_a_cut_turn_conflicts_after_the_conversation_went_on(tmp_path: Path) -> None:
    half: list[Action] = [("chunk", "Half a"), ("fin",)]
    async with backend(tmp_path, "sqlite:", half, says("Next.")) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        await ann.post(f"/api/chat/{number}", {"message": "hi"}, **{"idempotency-key": "a"})
        answer(await ann.say(number, "go on"))
        again = await ann.post(f"/api/chat/{number}", {"message": "hi"}, **{"idempotency-key": "a"})
        assert again.status == 409


async def test_a_turn_that_could_not_begin_blocks_no_other(tmp_path: Path) -> None:
    async with backend(tmp_path) as (served, _):
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {})).json()["id"]
        deep: Any = "x"
        for _ in range(600):
            deep = [deep]
        body = {"messages": [{"role": "user", "content": "hi"}], "odd": deep}
        header = {"x-dialgraph-conversation": chat}
        assert (await ann.post("/v1/chat/completions", body, **header)).status == 400
        began = asyncio.get_running_loop().time()
        assert (await ann.post(f"/v1/conversations/{chat}/messages", {"content": "hi"})).status == 200
        assert asyncio.get_running_loop().time() - began < 10


async def test_a_users_streams_are_limited_and_titles_count_as_turns(tmp_path: Path) -> None:
    rates = {"turn": "8/minute"}
    async with backend(tmp_path, "sqlite:", *[words(20)] * 10, user_streams=2, rates=rates) as (served, up):
        ann, _ = await login(served)
        numbers = [await ann.conversation() for _ in range(6)]
        replies = await asyncio.gather(*(ann.say(number, "hi") for number in numbers))
        statuses = sorted(reply.status for reply in replies)
        assert statuses == [200, 200, 429, 429, 429, 429] and len(up.exchanges) == 2
        chat = (await ann.get("/v1/conversations")).json()["data"][0]["id"]
        await ann.post(f"/v1/conversations/{chat}/messages", {"content": "hi"})
        titles = [(await ann.post(f"/v1/conversations/{chat}/title")).status for _ in range(8)]
        assert titles == [200] * 5 + [429] * 3


async def test_a_turn_whose_lease_expired_changes_nothing(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        user = (await served.state.accounts.users.known("john_doe")).id
        chat = (await served.state.conversations.get(user, number)).id
        turns = served.state.conversation_turns
        dead = await turns.begin(user, chat, "One")
        async with served.state.services.database.transaction() as connection:
            await connection.execute(sql("UPDATE conversation SET open_until = 1"))
        living = await turns.begin(user, chat, "Two")
        assert isinstance(dead, BegunTurn) and isinstance(living, BegunTurn)
        assert await turns.note({dead: "late", living: "now"}) == {dead}
        with pytest.raises(UnknownConversationError):
            await turns.end(dead, "late", "complete")
        await turns.end(living, "Good.", "complete")
        kept = [(one.question, one.answer, one.state) for one in await served.state.conversations.turns(user, chat)]
        assert kept == [("One", "", "interrupted"), ("Two", "Good.", "complete")]


async def test_deleting_a_conversation_deletes_its_memory(tmp_path: Path) -> None:
    from tests.dialgraph.test_memory import FLOW
    from tests.support.upstream import calls

    script: list[list[Action]] = [[*calls("remember", '{"name":"Zebrafish"}')], says("Which day?")]
    async with upstream(*script) as up, serving(tmp_path, (FLOW, []), models={"main": up.url}) as served:
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {"graph": "booking"})).json()["id"]
        await ann.post(f"/v1/conversations/{chat}/messages", {"content": "I am somebody"})
        assert files_with(tmp_path, "Zebrafish")
        assert (await delete(ann, f"/v1/conversations/{chat}")).status == 204
        assert not files_with(tmp_path, "Zebrafish")
