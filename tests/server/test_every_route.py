"""Rules that every route keeps. The tests read the list of routes, so a new route without a rule fails here."""

import json
from pathlib import Path
from typing import Any

from sqlalchemy import inspect

from server.users.user_data import TABLES
from tests.server.test_backend_api import backend
from tests.server.test_http import _routes as routes_of
from tests.server.test_users_api import login
from tests.support.accounts import Somebody, form
from tests.support.serving import Reply

OF_A_USER = {
    "conversation_id", "base_id", "document_id", "job_id", "key_id",
}  # fmt: skip
"""Path parameters that name an object of one user."""
OF_NOBODY = {"graph"}
SHARED = {"/v1/models", "/v1/models/{graph}", "/v1/openapi.json"}
"""Routes that send the same reply to every client with access."""
BODIES: dict[str, Any] = {
    "/api/chat/{conversation_id}": {"message": "hi"},
    "/api/rag/kb/delete": {"kb_id": "{base_id}"},
    "/api/rag/doc/delete": {"kb_id": "{base_id}", "doc_id": "{document_id}"},
    "/api/rag/retrieve": {"kb_id": "{base_id}", "query": "code"},
    "/api/rag/chat": {"conversation_id": 0, "kb_id": "{base_id}", "message": "hi"},
    "/v1/conversations/{conversation_id}": {"title": "mine"},
    "/v1/conversations/{conversation_id}/messages": {"content": "hi"},
    "/v1/knowledge-bases/{base_id}": {"name": "mine"},
    "/v1/knowledge-bases/{base_id}/search": {"query": "code"},
}
"""The bodies that requests need to get as far as the lookup, by path. `{name}` is replaced by an id."""
BY_BODY = ("/api/rag/kb/delete", "/api/rag/doc/delete", "/api/rag/retrieve", "/api/rag/chat", "/api/rag/doc/list")
NOBODYS_ID = "00000000-0000-4000-8000-000000000000"


async def belongings(ann: Somebody) -> dict[str, str]:
    """Create one object of each kind; return their ids by path parameter."""
    chat = (await ann.post("/v1/conversations", {"title": "secret"})).json()
    await ann.post(f"/v1/conversations/{chat['id']}/messages", {"content": "The code is 1234."})
    base = (await ann.post("/v1/knowledge-bases", {"name": "secret"})).json()["id"]
    body, kind = form({}, "secret.md", b"# Secret\n\nThe code is 1234.")
    job = (await ann.post(f"/v1/knowledge-bases/{base}/documents", body, **{"content-type": kind})).json()
    await ann.get(f"/v1/knowledge-bases/{base}/jobs/{job['id']}/events")
    key = (await ann.post("/v1/keys", {"name": "secret"})).json()["id"]
    return {
        "conversation_id": chat["id"], "number": str(chat["number"]), "base_id": base,
        "document_id": job["document_id"], "job_id": job["id"], "key_id": key,
    }  # fmt: skip


def filled(text: str, ids: dict[str, str], path: str) -> str:
    """Return the text with the ids filled in. The paths of `/api` name a conversation by its number."""
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", ids["number"] if name == "conversation_id" and "/api/" in path else value)
    return text


async def ask(who: Somebody, path: str, method: str, ids: dict[str, str], own_chat: int) -> Reply:
    """Send a request to the route, with these ids wherever it takes one."""
    body = BODIES.get(path.rstrip("/"), {})
    data = json.loads(filled(json.dumps(body), ids, path))
    if path.startswith("/api/rag/chat"):
        data["conversation_id"] = own_chat
    url = filled(path, ids, path) + (f"?kb_id={ids['base_id']}" if "doc/list" in path else "")
    if path.rstrip("/").endswith(("/documents", "/upload")) and method == "POST":
        content, kind = form({"kb_id": ids["base_id"]}, "mine.md", b"# Mine\n\nText.")
        return await who.post(url, content, **{"content-type": kind})
    return await who.served.post(url, data, who.headers, method)


async def state_of(ann: Somebody, ids: dict[str, str]) -> list[bytes]:
    """Return the replies that show a user their own objects."""
    paths = (
        f"/v1/conversations/{ids['conversation_id']}", f"/v1/conversations/{ids['conversation_id']}/messages",
        f"/v1/knowledge-bases/{ids['base_id']}", f"/v1/knowledge-bases/{ids['base_id']}/documents",
        f"/v1/knowledge-bases/{ids['base_id']}/jobs/{ids['job_id']}", "/v1/keys",
    )  # fmt: skip
    replies = [await ann.get(path) for path in paths]
    assert all(reply.status == 200 for reply in replies)
    return [reply.body for reply in replies]


async def test_another_users_object_gets_the_reply_of_an_unknown_one(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database, rates={"turn": "", "upload": "", "request": ""}) as (served, up):
        ann, _ = await login(served, "ann")
        bob, _ = await login(served, "bob")
        hers = await belongings(ann)
        nobodys = dict.fromkeys(hers, NOBODYS_ID) | {"number": "1", "job_id": NOBODYS_ID.replace("-", "")}
        own_chat = await bob.conversation()
        before, asked = await state_of(ann, hers), len(up.exchanges)
        tried = 0
        for route in routes_of(served.app):
            named = {name for name in OF_A_USER | OF_NOBODY if f"{{{name}}}" in route.path}
            assert route.path.count("{") == len(named), f"{route.path} has a parameter without a rule"
            if not (named & OF_A_USER) and not route.path.rstrip("/").endswith((*BY_BODY, "/api/rag/doc/upload")):
                continue
            for method in route.methods - {"HEAD"}:
                theirs = await ask(bob, route.path, method, hers, own_chat)
                unknown = await ask(bob, route.path, method, nobodys, own_chat)
                where = f"{method} {route.path}"
                assert theirs.status == unknown.status == 404, f"{where}: {theirs.status} {theirs.body!r}"
                assert theirs.body == unknown.body, where
                tried += 1
        assert tried >= 35, tried
        assert len(up.exchanges) == asked, "no model was asked"
        assert await state_of(ann, hers) == before


async def test_no_proxy_caches_a_reply_to_a_user(tmp_path: Path) -> None:
    async with backend(tmp_path) as (served, _):
        ann, _ = await login(served)
        ids = await belongings(ann)
        for route in routes_of(served.app):
            if route.path.startswith(("/v1/", "/api/")) and "GET" in route.methods and route.path not in SHARED:
                path = filled(route.path, ids, route.path) + (
                    f"?kb_id={ids['base_id']}" if "doc/list" in route.path else ""
                )
                reply = await ann.get(path)
                assert reply.headers.get("cache-control") == "no-store", route.path
                assert "etag" not in reply.headers


async def test_ids_in_bodies_and_headers_do_not_change_the_user(tmp_path: Path) -> None:
    async with backend(tmp_path) as (served, _):
        ann, session = await login(served, "ann")
        bob, _ = await login(served, "bob")
        claims = {"user_id": session["user"]["id"], "owner": "ann", "is_admin": True, "tenant": "ann"}
        made = (await bob.post("/v1/conversations", {"title": "x", **claims})).json()
        assert (await ann.get(f"/v1/conversations/{made['id']}")).status == 404
        header = {"x-user-id": session["user"]["id"], "x-forwarded-user": "ann"}
        assert (await bob.get("/v1/me", **header)).json()["name"] == "bob"
        assert (await bob.get(f"/v1/conversations?user_id={session['user']['id']}")).json()["data"][0]["id"] == made[
            "id"
        ]


async def test_every_table_has_a_rule_for_erasure(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database) as (served, _):
        async with served.state.services.database.transaction() as connection:
            tables = await connection.run_sync(lambda plain: inspect(plain).get_table_names())
    shadow = {name for name in tables if name.startswith(("knowledge_words_", "sqlite_"))}
    assert set(tables) - shadow == set(TABLES) - ({"knowledge_words"} - set(tables))


async def test_ids_cannot_be_guessed(tmp_path: Path) -> None:
    async with backend(tmp_path) as (served, _):
        ann, _ = await login(served)
        user = (await served.state.accounts.users.known("ann")).id
        made = [await served.state.conversations.create(user, graph="chat") for _ in range(300)]
        numbers = [one.number for one in made]
        assert len(set(numbers)) == 300 and sum(number > 2**50 for number in numbers) > 200
        assert len({one.id for one in made}) == 300 and all(one.id[14] == "4" for one in made), "random UUIDs"
        assert (await ann.get("/v1/me")).status == 200
