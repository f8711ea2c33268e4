"""`/v1`: accounts, keys, conversations and knowledge bases on a real socket, with both databases."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import String, func, select

from dialgraph.storage.tables.accounts import METADATA
from tests.server.test_backend_api import backend, files_with
from tests.support.accounts import PASSWORD, Somebody, form
from tests.support.serving import Reply, Served, serving
from tests.support.upstream import says
from tests.support.wire import read_stream


async def login(served: Served, name: str = "ann") -> tuple[Somebody, dict[str, Any]]:
    """Register a user and log in over `/v1`; return the user and the session."""
    credentials = {"name": name, "password": PASSWORD}
    assert (await served.post("/v1/users", credentials)).status == 201
    session = (await served.post("/v1/sessions", credentials)).json()
    return Somebody(served, session["access_token"]), session


async def delete(who: Somebody, path: str, body: Any = b"") -> Reply:
    """Send a DELETE request of this user."""
    return await who.served.post(path, body, who.headers, "DELETE")


async def test_a_refresh_token_works_once_and_reuse_ends_the_session(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, database_url=database) as served:
        ann, first = await login(served)
        assert (await ann.get("/v1/me")).json() == {"id": first["user"]["id"], "name": "ann"}
        second = (await served.post("/v1/sessions/refresh", {"refresh_token": first["refresh_token"]})).json()
        assert second["refresh_token"] != first["refresh_token"]
        again = Somebody(served, second["access_token"])
        assert (await again.get("/v1/me")).status == 200
        stolen = await served.post("/v1/sessions/refresh", {"refresh_token": first["refresh_token"]})
        assert stolen.status == 401 and stolen.error["code"] == "invalid_token"
        last = await served.post("/v1/sessions/refresh", {"refresh_token": second["refresh_token"]})
        assert last.status == 401, "a refresh token that is used twice ends the session"
        assert await dead(ann) and await dead(again)


async def dead(who: Somebody) -> bool:
    """Return whether the token is refused within about a second."""
    for _ in range(60):
        if (await who.get("/v1/me")).status == 401:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_logout_and_a_new_password_end_tokens(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ann, _ = await login(served)
        credentials = {"name": "ANN", "password": PASSWORD}
        other = Somebody(served, (await served.post("/v1/sessions", credentials)).json()["access_token"])
        assert (await delete(ann, "/v1/sessions/current")).status == 204
        assert (await ann.get("/v1/me")).status == 401 and (await other.get("/v1/me")).status == 200
        wrong = await served.post(
            "/v1/me/password", {"old": "not this one", "new": "another one"}, other.headers, "PUT"
        )
        assert wrong.status == 401
        change = {"old": PASSWORD, "new": "another password"}
        assert (await served.post("/v1/me/password", change, other.headers, "PUT")).status == 204
        assert (await other.get("/v1/me")).status == 401
        assert (await served.post("/v1/sessions", credentials)).status == 401
        assert (await served.post("/v1/sessions", {"name": "ann", "password": "another password"})).status == 201


async def test_a_key_opens_only_what_its_scopes_allow(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database, api_keys={"phone": "operator-key-0123456789"}, registration="open") as (
        served,
        _,
    ):
        ann, _ = await login(served)
        made = (await ann.post("/v1/keys", {"name": "bot", "scopes": ["chat"]})).json()
        bot = Somebody(served, made["key"])
        listed = (await ann.get("/v1/keys")).json()
        assert [one["name"] for one in listed] == ["bot"] and "key" not in listed[0]
        assert made["key"].endswith(listed[0]["ending"])
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        assert read_stream((await bot.post("/v1/chat/completions", body)).body).text == "Hello there."
        for path in ("/v1/conversations", "/v1/knowledge-bases", "/v1/me", "/v1/keys"):
            reply = await bot.get(path)
            assert reply.status == 403 and reply.error["code"] == "insufficient_scope", path
        other = (await ann.post("/v1/keys", {"name": "files", "scopes": ["knowledge"]})).json()
        files = Somebody(served, other["key"])
        assert (await files.get("/v1/knowledge-bases")).status == 200
        assert (await files.post("/v1/chat/completions", body)).status == 403
        assert (await ann.post("/v1/keys", {"name": "bot"})).status == 409
        assert (await ann.post("/v1/keys", {"name": "x", "scopes": ["all"]})).status == 400
        assert (await ann.post("/v1/keys", {"name": "old", "expires_at": 1})).status == 201
        assert (await delete(ann, f"/v1/keys/{made['id']}")).status == 204
        assert (await bot.post("/v1/chat/completions", body)).status == 401
        assert (await delete(ann, f"/v1/keys/{made['id']}")).status == 404
    assert not files_with(tmp_path, made["key"]), "a key is stored only as its hash"


async def test_conversations_are_listed_changed_and_searched(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database) as (served, up):
        ann, _ = await login(served)
        made = [
            (await ann.post("/v1/conversations", {"title": f"Trip {at}", "model": "gpt-4o"})).json() for at in range(5)
        ]
        seen, cursor = [], ""
        while cursor is not None:
            page = (await ann.get(f"/v1/conversations?limit=2&cursor={cursor}")).json()
            seen += [one["title"] for one in page["data"]]
            cursor = page["next_cursor"]
        assert seen == [f"Trip {at}" for at in (4, 3, 2, 1, 0)]
        path = f"/v1/conversations/{made[2]['id']}"
        change = {"title": "To Suzhou", "instructions": "Be brief."}
        changed = (await served.post(path, change, ann.headers, "PATCH")).json()
        assert changed["title"] == "To Suzhou" and changed["model"] == "gpt-4o"
        reply = await ann.post(f"{path}/messages", {"content": "Is 100% _silk_ sold there?", "stream": True})
        assert read_stream(reply.body).text == "Hello there."
        assert up.bodies[-1]["messages"][0] == {"role": "system", "content": "Be brief."}
        for wanted, count in (("suzhou", 1), ("100%25 _silk_", 1), ("100_", 0), ("Trip", 4), ("nothing", 0)):
            found = (await ann.get(f"/v1/conversations?search={wanted.replace(' ', '%20')}")).json()["data"]
            assert len(found) == count, wanted
        whole = (await ann.post(f"{path}/messages", {"content": "And tea?"})).json()
        assert whole["object"] == "chat.completion" and whole["choices"][0]["message"]["content"] == "Hello there."
        told = (await ann.get(f"{path}/messages?limit=1")).json()
        assert [(one["role"], one["position"], one["state"]) for one in told["data"]] == [
            ("user", 1, "complete"), ("assistant", 2, "complete"),
        ]  # fmt: skip
        rest = (await ann.get(f"{path}/messages?cursor={told['next_cursor']}")).json()
        assert [one["content"] for one in rest["data"]] == ["And tea?", "Hello there."] and rest["next_cursor"] is None
        assert (await served.post(path, {"graph": "none"}, ann.headers, "PATCH")).error["code"] == "unknown_graph"
        assert (await delete(ann, path)).status == 204
        assert (await ann.get(path)).error["code"] == "unknown_conversation"


async def test_a_conversation_continues_over_the_openai_endpoint(tmp_path: Path) -> None:
    async with backend(tmp_path) as (served, up):
        ann, _ = await login(served)
        key = (await ann.post("/v1/keys", {"name": "bot", "scopes": ["chat"]})).json()["key"]
        made = (await ann.post("/v1/conversations", {"title": "Trip"})).json()
        bot, header = Somebody(served, key), {"x-dialgraph-conversation": made["id"]}
        for words in ("I am Ann.", "Who am I?"):
            body = {"messages": [{"role": "user", "content": words}], "stream": True, "temperature": 0.5}
            assert read_stream((await bot.post("/v1/chat/completions", body, **header)).body).text == "Hello there."
        assert [message["content"] for message in up.bodies[-1]["messages"]] == [
            "I am Ann.",
            "Hello there.",
            "Who am I?",
        ]
        assert up.bodies[-1]["temperature"] == 0.5
        stranger, _ = await login(served, "bob")
        assert (await stranger.post("/v1/chat/completions", body, **header)).error["code"] == "unknown_conversation"
        nobody = await served.post("/v1/chat/completions", body, header)
        assert nobody.status == 401, "only its user may continue a conversation"


async def test_one_idempotency_key_runs_one_turn(tmp_path: Path, database: str) -> None:
    scripts = [says("One."), [("chunk", "Half"), ("fin",)], says("Whole.")]
    async with backend(tmp_path, database, *scripts) as (served, up):
        ann, _ = await login(served)
        made = (await ann.post("/v1/conversations", {})).json()
        path = f"/v1/conversations/{made['id']}/messages"
        first = await ann.post(path, {"content": "Count"}, **{"idempotency-key": "a"})
        again = await ann.post(path, {"content": "Count"}, **{"idempotency-key": "a"})
        assert [reply.json()["choices"][0]["message"]["content"] for reply in (first, again)] == ["One.", "One."]
        assert len(up.exchanges) == 1, "the model is asked once"
        other = await ann.post(path, {"content": "Sing"}, **{"idempotency-key": "a"})
        assert other.status == 422 and other.error["code"] == "idempotency_key_reused"
        broken = await ann.post(path, {"content": "Go on"}, **{"idempotency-key": "b"})
        assert broken.status == 502
        mended = await ann.post(path, {"content": "Go on"}, **{"idempotency-key": "b"})
        assert mended.json()["choices"][0]["message"]["content"] == "Whole.", "a failed turn runs again"
        told = (await ann.get(path)).json()["data"]
        assert [one["content"] for one in told] == ["Count", "One.", "Go on", "Whole."]


async def test_a_title_is_generated_from_the_conversation(tmp_path: Path) -> None:
    async with backend(tmp_path, "sqlite:", says("Sure."), says('"Trains to Suzhou."')) as (served, _):
        ann, _ = await login(served)
        made = (await ann.post("/v1/conversations", {})).json()
        path = f"/v1/conversations/{made['id']}"
        assert (await ann.post(f"{path}/title")).json()["title"] == ""
        await ann.post(f"{path}/messages", {"content": "Are there trains to Suzhou?"})
        assert (await ann.post(f"{path}/title")).json()["title"] == "Trains to Suzhou"
    async with serving(tmp_path / "none") as served:
        ann, _ = await login(served)
        made = (await ann.post("/v1/conversations", {})).json()
        path = f"/v1/conversations/{made['id']}"
        await ann.post(f"{path}/messages", {"content": "Are there trains to Suzhou? " * 9})
        assert (await ann.post(f"{path}/title")).json()[
            "title"
        ] == "Are there trains to Suzhou? Are there trains to Suzhou? Are…"


async def test_an_upload_can_be_followed_into_a_knowledge_base(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, database_url=database) as served:
        ann, _ = await login(served)
        base = (await ann.post("/v1/knowledge-bases", {"name": "Hotel"})).json()
        path = f"/v1/knowledge-bases/{base['id']}"
        body, kind = form({}, "../../rooms.md", b"# Rooms\n\nThe pool opens at seven.")
        sent = await ann.post(f"{path}/documents", body, **{"content-type": kind})
        assert sent.status == 202 and sent.json()["name"] == "rooms.md"
        followed = await ann.get(f"{path}/jobs/{sent.json()['id']}/events")
        states = [
            json.loads(line[6:])["state"] for line in followed.body.decode().split("\n\n") if line.startswith("data")
        ]
        assert states[-1] == "done" and set(states) <= {"queued", "running", "done"}
        polled = (await ann.get(f"{path}/jobs/{sent.json()['id']}")).json()
        assert (polled["state"], polled["done"]) == ("done", 1)
        found = (await ann.post(f"{path}/search", {"query": "When does the pool open?"})).json()
        assert found[0]["document"] == "rooms.md" and found[0]["document_id"] == sent.json()["document_id"]
        body, kind = form({}, "bad.pdf", b"%PDF-1.7 no")
        bad = (await ann.post(f"{path}/documents", body, **{"content-type": kind})).json()
        told = await ann.get(f"{path}/jobs/{bad['id']}/events")
        assert '"state":"failed"' in told.body.decode() and "damaged" in told.body.decode()
        listed = (await ann.get(f"{path}/documents")).json()["data"]
        assert {(one["name"], one["state"]) for one in listed} == {("rooms.md", "live"), ("bad.pdf", "failed")}
        one = f"{path}/documents/{sent.json()['document_id']}"
        assert (await ann.get(one)).json()["passages"] == 1
        assert (await delete(ann, one)).status == 204 and (await ann.get(one)).status == 404
        assert (await delete(ann, path)).status == 204 and (await ann.get(path)).status == 404


async def test_a_user_can_export_everything_and_delete_the_account(tmp_path: Path, database: str) -> None:
    marker = "zebrafish-Konzert-4711"
    async with backend(tmp_path, database) as (served, _):
        ann, _ = await login(served)
        bob, _ = await login(served, "bob")
        made = (await ann.post("/v1/conversations", {"title": marker})).json()
        await ann.post(f"/v1/conversations/{made['id']}/messages", {"content": f"About {marker}"})
        base = (await ann.post("/v1/knowledge-bases", {"name": marker})).json()
        await ann.upload(base["id"], f"{marker}.md", f"# {marker}\n\nIt is {marker}.".encode())
        await served.state.ledger.write()
        records = [json.loads(line) for line in (await ann.get("/v1/me/export")).body.splitlines()]
        assert {record["kind"] for record in records} == {
            "account", "conversation", "turn", "knowledge_base", "document", "usage",
        }  # fmt: skip
        assert all(marker in json.dumps(record) for record in records if record["kind"] not in ("account", "usage"))
        identity = next(record["id"] for record in records if record["kind"] == "account")
        assert {"account", "account_session", "conversation", "usage_turn"} <= await tables_with(served, identity)
        wrong = await delete(ann, "/v1/me", {"password": "not this one"})
        assert wrong.status == 403
        assert (await delete(ann, "/v1/me", {"password": PASSWORD})).status == 204
        assert (await ann.get("/v1/me")).status == 401
        assert (await served.post("/v1/sessions", {"name": "ann", "password": PASSWORD})).status == 401
        assert (await bob.get("/v1/me")).status == 200
        assert await tables_with(served, identity) == set(), "no row holds the user's id"
        if database == "sqlite:":
            assert not files_with(tmp_path, marker), "no byte of the user's data is left"
        assert (await served.post("/v1/users", {"name": "ann", "password": PASSWORD})).status == 201


async def tables_with(served: Served, identity: str) -> set[str]:
    """Return the tables that hold a user's id in any text column."""
    found = set()
    async with served.state.services.database.reading() as connection:
        for table in METADATA.sorted_tables:
            for column in table.columns:
                if isinstance(column.type, String):
                    wanted = select(func.count()).select_from(table).where(column.contains(identity))
                    found |= {table.name} if await connection.scalar(wanted) else set()
    return found


async def test_each_conversation_is_listed_once_while_others_change(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, database_url=database) as served:
        ann, _ = await login(served)
        user = (await served.state.accounts.users.known("ann")).id
        made = [await served.state.conversations.create(user, graph="chat") for _ in range(23)]
        seen, cursor, turn = [], "", 0
        while cursor is not None:
            page = (await ann.get(f"/v1/conversations?limit=4&cursor={cursor}")).json()
            seen += [one["id"] for one in page["data"]]
            cursor = page["next_cursor"]
            await served.state.conversations.create(user, graph="chat")
            await served.state.conversations.change(user, made[turn].id, {"title": "moved"})
            turn += 1
        assert sorted(seen) == sorted(one.id for one in made)


async def test_an_unexpected_error_is_logged_and_its_words_are_hidden(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {})).json()["id"]
        number = await ann.conversation()
        served.state.conversations = None  # type: ignore[assignment]  # a fault that does not happen by itself
        for path, body in (
            (f"/v1/conversations/{chat}/messages", {"content": "hi"}),
            (f"/api/chat/{number}", {"message": "hi"}),
            ("/v1/conversations", {}),
        ):
            reply = await ann.post(path, body)
            assert reply.status == 500 and b"NoneType" not in reply.body and b"Traceback" not in reply.body
    assert caplog.text.count("AttributeError") >= 3
