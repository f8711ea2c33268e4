"""Turns while clients leave, barge in or delete, and servers stop: the words that were sent are stored."""

import asyncio
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from dialgraph.users.conversations.conversations import LEASE_MILLISECONDS, is_running
from server.turns.turn_recorder import NOTE_SECONDS
from tests.server.test_backend_api import backend
from tests.support.accounts import Somebody, answer, events, somebody
from tests.support.serving import Connection, serving
from tests.support.upstream import Action, says, upstream


def words(count: int, seconds: float = 0.02) -> list[Action]:
    """Return a slow answer of this many words."""
    said: list[Action] = []
    for at in range(count):
        said += [("chunk", f"w{at} "), ("sleep", seconds)]
    return [*said, ("finish", "stop"), ("done",)]


async def listen(who: Somebody, number: int, message: str, until: int) -> tuple[Connection, str]:
    """Send the message and receive this many words. The stream stays open."""
    connection = await who.served.connect()
    await connection.send(who.served.request(f"/api/chat/{number}", {"message": message}, who.headers))
    status, _ = await connection.head()
    assert status == 200
    heard = ""
    while heard.count(" ") < until:
        heard += told_in(await connection.chunk())
    return connection, heard


def told_in(data: bytes) -> str:
    """Return the words of these events."""
    frames = [json.loads(line[6:]) for line in data.decode().split("\n\n") if line.startswith("data: ")]
    return "".join(frame["data"] for frame in frames if frame["event"] == "message")


async def kept_turns(who: Somebody, number: int, count: int, state: str) -> list[Any]:
    """Wait until there are this many turns and the last one is in this state; return them."""
    user = (await who.served.state.accounts.users.known("john_doe")).id
    for _ in range(400):
        turns = await who.served.state.conversations.turns(user, number)
        if len(turns) == count and turns[-1].state == state:
            return list(turns)
        await asyncio.sleep(0.02)
    raise AssertionError(f"the turns stayed {[(turn.answer, turn.state) for turn in turns]}")


async def test_the_received_part_of_a_cut_answer_is_stored(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database, words(200), says("Next.")) as (served, up):
        ann = await somebody(served)
        number = await ann.conversation()
        connection, heard = await listen(ann, number, "Count", 5)
        await connection.aclose()
        (turn,) = await kept_turns(ann, number, 1, "interrupted")
        assert turn.answer.startswith(heard) and len(turn.answer) < 200
        await up.until(lambda: up.exchanges[0].left is not None)
        assert answer(await ann.say(number, "And now?")) == "Next."
        assert up.bodies[-1]["messages"] == [
            {"role": "user", "content": "Count"},
            {"role": "assistant", "content": turn.answer},
            {"role": "user", "content": "And now?"},
        ]


async def test_an_answer_that_nobody_received_is_not_stored(tmp_path: Path) -> None:
    async with backend(tmp_path, "sqlite:", words(200)) as (served, up):
        ann = await somebody(served)
        number = await ann.conversation()
        chat = (await ann.get("/v1/conversations")).json()["data"][0]["id"]
        connection = await served.connect()
        await connection.send(served.request(f"/v1/conversations/{chat}/messages", {"content": "hi"}, ann.headers))
        await up.until(lambda: bool(up.exchanges) and up.exchanges[0].sent > 3)
        await connection.aclose()
        (turn,) = await kept_turns(ann, number, 1, "interrupted")
        assert turn.answer == ""


async def test_two_hundred_barge_ins_keep_the_order_of_turns(tmp_path: Path) -> None:
    async with backend(tmp_path, "sqlite:", rates={"turn": ""}) as (served, up):
        up.default = words(100, 0.005)
        ann = await somebody(served)
        number = await ann.conversation()
        connection, heard = await listen(ann, number, "Turn 0", 1)
        told = [heard]
        for at in range(1, 200):
            connection.reset() if at % 2 else connection.writer.close()
            connection, heard = await listen(ann, number, f"Turn {at}", 1)
            told.append(heard)
        connection.reset()
        turns = await kept_turns(ann, number, 200, "interrupted")
        assert [turn.position for turn in turns] == list(range(1, 201))
        assert [turn.question for turn in turns] == [f"Turn {at}" for at in range(200)]
        assert all(turn.answer.startswith(heard) for turn, heard in zip(turns, told, strict=True))
        roles = [message["role"] for message in up.bodies[-1]["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


async def test_a_turn_waits_for_the_one_before_but_not_forever(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database, words(20), says("Second."), words(60)) as (served, up):
        ann = await somebody(served)
        number = await ann.conversation()
        first = asyncio.create_task(ann.say(number, "One"))
        await up.until(lambda: bool(up.exchanges))
        assert answer(await ann.say(number, "Two")) == "Second."
        assert answer(await first).startswith("w0 ")
        assert [message["content"] for message in up.bodies[1]["messages"]][-1] == "Two"
        served.state.conversation_turns.wait_seconds = 0.2
        third = asyncio.create_task(ann.say(number, "Three"))
        await up.until(lambda: len(up.exchanges) == 3)
        refused = await ann.say(number, "Four")
        assert (refused.status, refused.json()["error"]) == (409, "Another answer of this conversation is running")
        assert refused.headers["retry-after"] == "1"
        answer(await third)
        assert [content for role, content in await ann.history(number) if role == "user"] == ["One", "Two", "Three"]


async def test_eight_clients_in_one_conversation_lose_nothing(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        replies = await asyncio.gather(*(ann.say(number, f"From {at}") for at in range(8)))
        assert {answer(reply) for reply in replies} == {"Hello there."}
        said = await ann.history(number)
        assert sorted(content for role, content in said if role == "user") == [f"From {at}" for at in range(8)]
        assert [role for role, _ in said] == ["user", "assistant"] * 8


async def test_deleting_a_conversation_ends_its_turn(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database, words(500)) as (served, up):
        ann = await somebody(served)
        number = await ann.conversation()
        connection, _ = await listen(ann, number, "Count", 2)
        assert (await ann.post(f"/api/conversations/del/{number}")).status == 200
        data = b""
        while piece := await connection.chunk():
            data += piece
        last = json.loads(data.decode().strip().rsplit("data: ", 1)[-1])
        assert last == {"event": "error", "data": "Conversation not found"}
        await up.until(lambda: up.exchanges[0].left is not None)
        assert (await ann.get(f"/api/conversations/history/{number}")).status == 404
        assert (await ann.get("/api/conversations/list")).json() == [], "the deleted conversation stays away"


async def test_a_stopping_server_reports_an_error_and_stores_the_words(tmp_path: Path) -> None:
    async with upstream(default=words(500)) as up:
        settings = {"models": {"main": up.url}, "upstreams": {"gpt": up.url}, "grace_seconds": 0.2}
        async with serving(tmp_path, **settings) as served:
            ann = await somebody(served)
            number = await ann.conversation()
            connection, heard = await listen(ann, number, "Count", 3)
            served.server.should_exit = True
            data = b""
            while piece := await connection.chunk():
                data += piece
            assert b'"event":"error"' in data and b'"done"' not in data
            heard += told_in(data)
        async with serving(tmp_path, **settings) as served:
            (turn,) = await kept_turns(Somebody(served, ann.token), number, 1, "interrupted")
            assert turn.answer == heard


async def test_an_answer_is_stored_while_it_streams(tmp_path: Path, database: str) -> None:
    """A kill then loses at most one second of the answer."""
    async with backend(tmp_path, database, words(400)) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        connection, heard = await listen(ann, number, "Count", 10)
        deadline = time.monotonic() + NOTE_SECONDS + 2
        while not (turns := await kept_turns(ann, number, 1, "open"))[0].answer.startswith(heard):
            assert time.monotonic() < deadline, turns
            await asyncio.sleep(0.05)
        connection.reset()


async def test_every_text_is_stored_exactly_as_it_was_sent(tmp_path: Path, database: str) -> None:
    texts = [
        "👩‍👩‍👧‍👦 ok",
        "שלום ‮abc",
        "a\r\nb\rc\u2028d\u2029e\x85f",
        'quote " \\ </script> data: x\n\nevent: y',
        "x" * 100_000,
        "\ud83d\ude00",
    ]
    texts = [text.encode("utf-16", "surrogatepass").decode("utf-16") for text in texts]
    for text in texts:
        pieces: list[Action] = [("chunk", text[at : at + 7]) for at in range(0, min(len(text), 700), 7)]
        pieces = pieces if len(text) < 700 else [("chunk", text)]
        script = [*pieces, ("finish", "stop"), ("done",)]
        async with backend(tmp_path / str(len(text)), database, script) as (served, _):
            ann = await somebody(served, f"ann{len(text)}{text[:1] == texts[0][:1]}")
            number = await ann.conversation()
            assert answer(await ann.say(number, text)) == text
            assert await ann.history(number) == [("user", text), ("assistant", text)]


async def test_a_locked_database_causes_a_wait_and_then_a_503(tmp_path: Path) -> None:
    async with backend(tmp_path) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        other = await asyncio.to_thread(sqlite3.connect, tmp_path / "dialgraph.db", check_same_thread=False)
        other.execute("BEGIN EXCLUSIVE")
        waiting = asyncio.create_task(ann.say(number, "hi"))
        await asyncio.sleep(1.0)
        other.rollback()
        assert answer(await waiting) == "Hello there."
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        refused = await ann.say(number, "hi")
        assert refused.status == 503 and refused.headers["retry-after"] == "5"
        assert time.monotonic() - began < 7
        assert (await ann.history(number))[-1] == ("assistant", "Hello there."), "reading still works"
        other.rollback()
        other.close()
        assert answer(await ann.say(number, "again")) == "Hello there."


async def test_a_turn_whose_end_cannot_be_stored_ends_with_an_error(tmp_path: Path) -> None:
    async with backend(tmp_path, "sqlite:", words(30)) as (served, up):
        ann = await somebody(served)
        number = await ann.conversation()
        talking = asyncio.create_task(ann.say(number, "hi"))
        await up.until(lambda: bool(up.exchanges) and up.exchanges[0].sent > 3)
        other = await asyncio.to_thread(sqlite3.connect, tmp_path / "dialgraph.db", check_same_thread=False)
        other.execute("BEGIN EXCLUSIVE")
        told = events(await talking)
        assert told[-1][0] == "error" and not any(name == "done" for name, _ in told)
        other.rollback()
        other.close()
        (turn,) = await kept_turns(ann, number, 1, "failed")
        assert turn.answer == "".join(data for name, data in told if name == "message"), "the spoken words are stored"


async def test_two_servers_run_one_turn_of_a_conversation_at_a_time(tmp_path: Path, database: str) -> None:
    if database == "sqlite:":
        database = f"sqlite:///{tmp_path / 'shared.db'}"
    async with upstream(words(40), says("Second.")) as up:
        settings: dict[str, Any] = {
            "models": {"main": up.url}, "upstreams": {"gpt": up.url}, "database_url": database,
            "token_secret": "0123456789abcdefghijklmnopqrstuvwxyz", "encryption_keys": ENCRYPTION_KEY,
        }  # fmt: skip
        async with serving(tmp_path / "a", **settings) as first, serving(tmp_path / "b", **settings) as second:
            ann = await somebody(first)
            number = await ann.conversation()
            elsewhere = Somebody(second, ann.token)
            talking = asyncio.create_task(ann.say(number, "One"))
            await up.until(lambda: bool(up.exchanges))
            assert answer(await elsewhere.say(number, "Two")) == "Second."
            assert (await talking).status == 200
            assert [content for role, content in await elsewhere.history(number) if role == "user"] == ["One", "Two"]
            assert (await ann.post(f"/api/conversations/del/{number}")).status == 200
            assert (await elsewhere.get(f"/api/conversations/history/{number}")).status == 404


ENCRYPTION_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


async def test_a_streaming_turn_holds_no_database_connection(tmp_path: Path, database: str) -> None:
    out: list[int] = []
    taken, given = (lambda *_: out.append(1)), (lambda *_: out.append(-1))
    event.listen(Pool, "checkout", taken)
    event.listen(Pool, "checkin", given)
    try:
        async with backend(tmp_path, database, *[words(300)] * 5, user_streams=0) as (served, _):
            ann = await somebody(served)
            open_streams = [await listen(ann, await ann.conversation(), "Count", 2) for _ in range(5)]
            idle = 0
            for _ in range(200):
                idle += sum(out) == 0
                await asyncio.sleep(0.005)
            assert out and idle > 150, "a turn writes only once a second while it streams"
            for connection, _ in open_streams:
                connection.reset()
    finally:
        event.remove(Pool, "checkout", taken)
        event.remove(Pool, "checkin", given)


async def test_leaving_during_the_last_write_leaves_no_half_turn(tmp_path: Path, database: str) -> None:
    """Each turn is stored as complete or as interrupted, never in between, and nothing keeps running."""
    async with backend(tmp_path, database, rates={"turn": ""}) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        for at in range(25):
            connection = await served.connect()
            await connection.send(served.request(f"/api/chat/{number}", {"message": f"{at}"}, ann.headers))
            await asyncio.sleep(0.0008 * at)
            connection.reset()
        assert answer(await ann.say(number, "last")) == "Hello there."
        turns = await kept_turns(ann, number, len(await questions(ann, number)), "complete")
        assert [turn.position for turn in turns] == list(range(1, len(turns) + 1))
        assert {turn.state for turn in turns} <= {"complete", "interrupted"}
        assert all(turn.answer == "Hello there." for turn in turns if turn.state == "complete")
        assert served.state.recorder.running == set() and not served.state.runs.open


async def questions(who: Somebody, number: int) -> list[str]:
    """Return the questions of the conversation."""
    return [text for role, text in await who.history(number) if role == "user"]


def test_a_lease_from_a_wrong_clock_is_ignored() -> None:
    now = 1_000_000_000_000
    day = 24 * 3600 * 1000
    assert is_running(now + LEASE_MILLISECONDS, now) and is_running(now, now)
    assert not is_running(now - 1, now), "the lease has expired"
    assert not is_running(now + day, now), "the clock was set back a day: nobody is locked out"
    assert not is_running(now + LEASE_MILLISECONDS, now + day), "the clock was set forward a day"
