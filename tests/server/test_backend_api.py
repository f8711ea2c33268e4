"""The routes of `/api` on a real socket, with both databases: they answer as documented."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dialgraph.project import ROOT
from tests.support.accounts import answer, events, somebody
from tests.support.redis_server import redis_server
from tests.support.serving import Served, serving
from tests.support.upstream import Upstream, says, upstream
from tests.support.wire import read_stream

SCRIPT = ROOT / "examples" / "backend-api.sh"


@asynccontextmanager
async def backend(
    tmp_path: Path, database: str = "sqlite:", *scripts: Any, **settings: Any
) -> AsyncIterator[tuple[Served, Upstream]]:
    """Yield a server and the scripted upstream that serves its model and its users' models."""
    async with upstream(*scripts) as up:
        given = {"models": {"main": up.url}, "upstreams": {"gpt": up.url}, "database_url": database, **settings}
        async with serving(tmp_path, **given) as served:
            yield served, up


def files_with(folder: Path, text: str) -> list[Path]:
    """Return the files that contain the text."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.parametrize("cached", [False, True])
async def test_the_documented_curl_lines_work(cached: bool, tmp_path: Path, database: str) -> None:
    scripts = (says('Rust is "fast".\n', "Yes."), says("It excuses."))
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server(tmp_path / "redis")) if cached else None
        settings = {"redis_url": redis.url} if redis else {}
        served, up = await stack.enter_async_context(backend(tmp_path / "data", database, *scripts, **settings))
        environment = {**os.environ, "HOST": f"http://127.0.0.1:{served.port}"}
        process = await asyncio.create_subprocess_exec(
            "bash", str(SCRIPT), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        printed = (await process.communicate())[0].decode()
        assert process.returncode == 0, printed
    answers = {}
    for part in printed.split("\n## ")[1:]:
        name, rest = part.split("\n", 1)
        body, status = re.split(r"\n(?=\d{3}\n*$)", rest[rest.index("\n{" if "\n{" in rest else "\n") :].rstrip())[-2:]
        answers[name] = (int(status), body)
    texts = {
        name: body.rsplit("\n}'\n", 1)[-1].rsplit("\n}\n", 1)[-1].strip().splitlines()
        for name, (_, body) in answers.items()
    }
    assert {name: status for name, (status, _) in answers.items()} == {
        "Register a User": 201, "Login a User": 200, "Create a Conversation": 200, "Stream Chat Messages": 200,
        "Get Conversation History": 200, "List User Conversations": 200, "Create Knowledge Base": 200,
        "Get Knowledge Base List": 200, "Upload Document to Knowledge Base": 200,
        "Retrieve Information from Knowledge Base": 200, "Chat with Knowledge Base": 200,
        "Delete a Conversation": 200,
    }, printed  # fmt: skip

    def told(name: str) -> Any:
        return json.loads(texts[name][-1])

    assert told("Register a User") == {"message": "User registered successfully"}
    assert set(told("Login a User")) == {"token"}
    conversation = told("Create a Conversation")
    assert set(conversation) == {"conversation_id", "title", "model", "api_key", "created_time"}
    assert conversation["api_key"] == "your-api-key-here"
    lines = [json.loads(line[6:]) for line in texts["Stream Chat Messages"] if line.startswith("data: ")]
    assert lines[-2:] == [
        {"event": "done", "data": "Stream finished"},
        {"event": "full_response", "data": 'Rust is "fast".\nYes.'},
    ]
    history = told("Get Conversation History")
    assert history["messages"] == [
        {"role": "user", "content": "介绍一下RUST", "message_id": 1},
        {"role": "assistant", "content": 'Rust is "fast".\nYes.', "message_id": 2},
    ]
    assert history["created_time"] == conversation["created_time"]
    listed = told("List User Conversations")
    assert [set(one) for one in listed] == [{"conversation_id", "title", "created_time"}]
    base = told("Create Knowledge Base")
    assert base["success"] and base["message"].startswith("知识库创建成功，使用模型: ")
    assert [set(one) for one in told("Get Knowledge Base List")["kbs"]] == [{"kb_id", "kb_name", "embedding_model"}]
    assert told("Upload Document to Knowledge Base")["message"] == "文档上传处理成功，共分割并添加 1 个文本块"
    results = told("Retrieve Information from Knowledge Base")["results"]
    assert [set(one) for one in results] == [{"content", "score", "doc_id", "doc_name"}]
    assert results[0]["doc_name"] == "document.md" and "免除当事人责任" in results[0]["content"]
    assert "免除当事人责任" in json.dumps(up.bodies[1]["messages"], ensure_ascii=False), "the passage is in the prompt"
    assert told("Delete a Conversation") == {"message": "Conversation deleted successfully"}
    keys = {exchange.headers.get("authorization") for exchange in up.exchanges}
    assert keys == {"Bearer your-api-key-here"}, "only the user's own key goes to their upstream"


async def test_errors_have_the_documented_status_and_message(tmp_path: Path) -> None:
    async with backend(tmp_path) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        told: list[tuple[int, str]] = []
        for method, path, body, headers in [
            ("POST", "/api/users/register", {"username": "john_doe", "password": "SecureP@ssw0rd!"}, {}),
            ("POST", "/api/users/register", {"username": "x"}, {}),
            ("POST", "/api/users/register", b"{", {}),
            ("POST", "/api/users/login", {"username": "john_doe", "password": "wrong password"}, {}),
            ("POST", "/api/users/login", {"username": "nobody", "password": "wrong password"}, {}),
            ("GET", "/api/conversations/list", b"", {}),
            ("GET", "/api/conversations/list", b"", {"authorization": "Token x"}),
            ("GET", "/api/conversations/list", b"", {"authorization": "Bearer x.y.z"}),
            ("POST", "/api/conversations/create", {"title": "x"}, ann.headers),
            ("GET", "/api/conversations/history/1", b"", ann.headers),
            ("GET", "/api/conversations/history/one", b"", ann.headers),
            ("POST", "/api/conversations/del/1", b"", ann.headers),
            ("POST", "/api/chat/1", {"message": "hi"}, ann.headers),
            ("POST", "/api/chat/one", {"message": "hi"}, ann.headers),
            ("POST", f"/api/chat/{number}", {"message": 7}, ann.headers),
            ("POST", f"/api/chat/{number}", {"message": "hi"}, {}),
            ("POST", "/api/rag/kb/delete", {"kb_id": "x"}, ann.headers),
            ("POST", "/api/rag/kb/create", {}, ann.headers),
            ("GET", "/api/rag/doc/list", b"", ann.headers),
            ("GET", "/api/nothing", b"", ann.headers),
        ]:  # fmt: skip
            reply = await served.post(path, body, headers, method)
            assert set(reply.json()) == {"error"} and reply.headers["content-type"] == "application/json"
            told.append((reply.status, reply.json()["error"]))
        chinese = await ann.get("/api/conversations/history/1", **{"accept-language": "zh-CN,zh;q=0.9,en;q=0.8"})
        english = await ann.post("/api/rag/kb/delete", {"kb_id": "x"}, **{"accept-language": "en-US"})
        wrong_method = await ann.get("/api/users/login")
    assert told == [
        (400, "username already exists"), (400, "Invalid request"), (400, "Invalid request"),
        (401, "invalid username or password"), (401, "invalid username or password"),
        (401, "Authorization header missing"), (401, "Invalid token format"), (401, "Invalid or expired token"),
        (400, "Invalid request"), (404, "Conversation not found"), (400, "Invalid conversation ID"),
        (404, "Conversation not found"), (404, "Conversation not found"), (400, "Invalid conversation ID"),
        (400, "Invalid request"), (401, "Authorization header missing"),
        (404, "知识库不存在"), (400, "无效的请求参数"), (400, "缺少知识库 ID"),
        (404, "Nothing found at '/api/nothing'. `GET /` lists the endpoints."),
    ]  # fmt: skip
    assert chinese.json() == {"error": "对话不存在"} and english.json() == {"error": "Knowledge base not found"}
    assert wrong_method.status == 405


async def test_a_path_with_a_trailing_slash_is_answered(tmp_path: Path) -> None:
    async with backend(tmp_path) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        assert answer(await ann.post(f"/api/chat/{number}/", {"message": "hi"})) == "Hello there."
        for path in (
            f"/api/conversations/history/{number}/",
            "/api/conversations/list/",
            "/api/rag/kb/list/",
            "/api/rag/models/",
        ):
            assert (await ann.get(path)).status == 200, path


async def test_the_stream_format_is_chosen_by_header_query_or_setting(tmp_path: Path) -> None:
    async with backend(tmp_path) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        lines = await ann.post(f"/api/chat/{number}", {"message": "hi"}, accept="application/x-ndjson")
        assert lines.headers["content-type"] == "application/x-ndjson"
        told = [json.loads(line) for line in lines.body.splitlines()]
        assert [one["event"] for one in told] == ["message"] * 3 + ["done", "full_response"]
        chunks = await ann.post(f"/api/chat/{number}?stream_format=openai", {"message": "hi"})
        assert read_stream(chunks.body).text == "Hello there."
        assert (await ann.post(f"/api/chat/{number}?stream_format=xml", {"message": "hi"})).status == 400
    async with backend(tmp_path / "set", api_stream="lines") as (served, _):
        ann = await somebody(served)
        reply = await ann.say(await ann.conversation(), "hi")
        assert json.loads(reply.body.splitlines()[-1]) == {"event": "full_response", "data": "Hello there."}


async def test_a_conversation_remembers_and_other_users_cannot_see_it(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database) as (served, up):
        ann, bob = await somebody(served, "ann"), await somebody(served, "bob")
        number = await ann.conversation(model="gpt-4o")
        answer(await ann.say(number, "I am Ann"))
        answer(await ann.say(number, "Who am I?"))
        asked = len(up.exchanges)
        assert up.bodies[-1]["messages"] == [
            {"role": "user", "content": "I am Ann"},
            {"role": "assistant", "content": "Hello there."},
            {"role": "user", "content": "Who am I?"},
        ]
        base = await ann.base()
        document = (await ann.upload(base, "secret.md", b"# Secret\n\nThe code is 1234.")).json()["doc_id"]
        before = await ann.history(number)
        for theirs, unknown in [
            (bob.get(f"/api/conversations/history/{number}"), bob.get("/api/conversations/history/1")),
            (bob.post(f"/api/conversations/del/{number}"), bob.post("/api/conversations/del/1")),
            (bob.say(number, "hi"), bob.say(1, "hi")),
            (
                bob.post("/api/rag/retrieve", {"kb_id": base, "query": "code"}),
                bob.post("/api/rag/retrieve", {"kb_id": "x", "query": "code"}),
            ),
            (bob.get(f"/api/rag/doc/list?kb_id={base}"), bob.get("/api/rag/doc/list?kb_id=x")),
            (
                bob.post("/api/rag/doc/delete", {"kb_id": base, "doc_id": document}),
                bob.post("/api/rag/doc/delete", {"kb_id": "x", "doc_id": document}),
            ),
            (bob.post("/api/rag/kb/delete", {"kb_id": base}), bob.post("/api/rag/kb/delete", {"kb_id": "x"})),
            (bob.upload(base, "mine.md", b"# Mine\n\nIt is."), bob.upload("x", "mine.md", b"# Mine\n\nIt is.")),
        ]:
            one, other = await theirs, await unknown
            assert (one.status, one.body) == (other.status, other.body) and one.status == 404
        his = await bob.conversation()
        mixed = {"conversation_id": his, "kb_id": base, "message": "What is the code?"}
        assert (await bob.post("/api/rag/chat", mixed)).status == 404
        assert len(up.exchanges) == asked, "no refused request reaches the upstream"
        assert await ann.history(number) == before
        found = (await ann.post("/api/rag/retrieve", {"kb_id": base, "query": "code"})).json()["results"]
        assert [one["doc_id"] for one in found] == [document]
        assert (await bob.get("/api/conversations/list")).json() != [], "Bob's own conversation is listed"
        assert (await bob.get("/api/rag/kb/list")).json()["kbs"] == []


async def test_a_list_without_entries_is_an_empty_array(tmp_path: Path) -> None:
    async with backend(tmp_path) as (served, _):
        ann = await somebody(served)
        assert (await ann.get("/api/conversations/list")).json() == []


async def test_an_upstream_failure_is_reported_and_spoken_words_are_stored(tmp_path: Path, database: str) -> None:
    scripts = [[("chunk", "One "), ("chunk", "two"), ("fin",)], [("status", 401, {}, b"{}")], says("Three.")]
    async with backend(tmp_path, database, *scripts) as (served, up):
        ann = await somebody(served)
        number = await ann.conversation()
        cut = events(await ann.say(number, "Count"))
        assert [name for name, _ in cut] == ["message", "message", "error"], "a cut answer has no `done`"
        own = await ann.conversation(api_key="sk-wrong")
        up.scripts.insert(0, [("status", 401, {}, b"{}")])
        assert (await ann.say(own, "hi")).status == 502, "a 401 would make the client log in again"
        refused = await ann.say(number, "Go on")
        assert refused.status == 502 and set(refused.json()) == {"error"}
        assert answer(await ann.say(number, "Please")) == "Three."
        assert await ann.history(number) == [
            ("user", "Count"), ("assistant", "One two"), ("user", "Go on"), ("user", "Please"), ("assistant", "Three."),
        ]  # fmt: skip
    assert up.bodies[-1]["messages"] == [
        {"role": "user", "content": "Count"},
        {"role": "assistant", "content": "One two"},
        {"role": "user", "content": "Go on\nPlease"},
    ]


async def test_users_keys_are_encrypted_and_shown_once(tmp_path: Path) -> None:
    key = "sk-user-0123456789abcdef"
    async with backend(tmp_path) as (served, up):
        ann = await somebody(served)
        number = await ann.conversation(api_key=key)
        answer(await ann.say(number, "hi"))
        assert up.exchanges[-1].headers["authorization"] == f"Bearer {key}"
        later = [await ann.get(f"/api/conversations/history/{number}"), await ann.get("/api/conversations/list")]
        assert not any(key.encode() in reply.body for reply in later)
    assert not files_with(tmp_path, key)


async def test_registration_is_closed_on_a_server_with_keys(tmp_path: Path) -> None:
    key = "operator-key-0123456789"
    credentials = {"username": "eve", "password": "SecureP@ssw0rd!"}
    async with serving(tmp_path, api_keys={"phone": key}) as served:
        reply = await served.post("/api/users/register", credentials)
        assert (reply.status, reply.json()) == (403, {"error": "Registration is closed"})
    async with serving(tmp_path, api_keys={"phone": key}, registration="open") as served:
        assert (await served.post("/api/users/register", credentials)).status == 201


async def test_auth_none_refuses_registration_and_login_through_a_proxy(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for path in ("/api/users/register", "/api/users/login"):
            reply = await served.post(
                path, {"username": "eve", "password": "SecureP@ssw0rd!"}, {"x-forwarded-for": "1.2.3.4"}
            )
            assert reply.status == 401, "the request came through a proxy or tunnel"
