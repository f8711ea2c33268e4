"""HTTP: paths, refusals with their status and envelope, limits, keys, and a stop that lets calls finish."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from server.access.key_file import KeyFile
from server.app import create_app
from server.connection.limited_protocol import MAX_HEADER_BYTES
from server.errors import ApiError
from server.settings import Settings, SettingsError
from tests.support.serving import Reply, serving
from tests.support.upstream import Action, says, upstream
from tests.support.wire import read_stream

CHAT = "/chat/completions"
HI: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.mark.parametrize("graph", ["chat", "rag", "audio", "hangup"])
async def test_every_endpoint_answers_on_every_path_that_hosts_use(tmp_path: Path, graph: str) -> None:
    own = "" if graph == "chat" else f"/{graph}"
    paths = {
        f"{own}{CHAT}", f"/v1{own}{CHAT}", f"/{graph}{CHAT}", f"/{graph}/v1{CHAT}", f"/v1/{graph}{CHAT}",
        f"{own}{CHAT}{CHAT}", f"/{graph}/v1{CHAT}{CHAT}", f"/v1{own}{CHAT}{CHAT}",
    }  # fmt: skip
    async with serving(tmp_path) as served:
        for path in sorted(paths):
            answer = read_stream((await served.ask("Is there a gym?", path, modalities=["text"])).body)
            assert ("key card" in answer.text) == (graph != "chat"), path


async def test_index_models_and_health_routes_describe_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        index = (await served.get("/")).json()
        models = [(await served.get(path)).json() for path in ("/v1/models", "/models", "/rag/v1/models")]
        one, none = await served.get("/v1/models/rag"), await served.get("/v1/models/nope")
        beside = await served.get("/nope/models")
        health, ready, ping = [await served.get(path) for path in ("/health", "/ready", "/ping")]
    assert [endpoint["name"] for endpoint in index["endpoints"]] == ["chat", "rag", "audio", "hangup"]
    assert all([one["id"] for one in listed["data"]] == ["chat", "rag", "audio", "hangup"] for listed in models)
    assert {"object", "created", "owned_by", "id"} == set(models[0]["data"][0])
    assert one.json()["id"] == "rag" and (none.status, beside.status) == (404, 404)
    assert (health.json(), ready.json(), ping.json()) == (
        {"status": "ok"},
        {
            "status": "ok",
            "database": "up",
            "models": {"main": "up"},
            "stores": {"main": "up"},
            "voices": {"main": "up"},
            "cache": "ok",
        },
        {"message": "pong"},
    )


@pytest.mark.parametrize(
    ("path", "method", "body", "headers", "status", "code"),
    [
        ("/nowhere", "POST", b"{}", {}, 404, "not_found"),
        (CHAT, "GET", b"", {}, 405, "method_not_allowed"),
        ("/v1/models", "POST", b"{}", {}, 405, "method_not_allowed"),
        (CHAT, "POST", b"{", {}, 400, "invalid_json"),
        (CHAT, "POST", b"{}", {}, 400, "invalid_value"),
        (CHAT, "POST", b"{}", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (CHAT, "POST", b"{}", {"content-encoding": "gzip"}, 415, "unsupported_encoding"),
        (CHAT, "POST", b" " * 2000, {}, 413, "body_too_large"),
        (CHAT, "POST", b"{}", {"x-long": "x" * MAX_HEADER_BYTES}, 431, "headers_too_large"),
    ],
)
async def test_a_refusal_has_its_status_and_the_envelope(
    tmp_path: Path, path: str, method: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async with serving(tmp_path, body_limit_mb=0.001) as served:
        reply = await served.post(path, body, headers, method)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert reply.headers["content-type"] == "application/json"


async def test_a_body_without_a_length_is_refused_while_it_arrives(tmp_path: Path) -> None:
    async with serving(tmp_path, body_limit_mb=0.01) as served:
        connection = await served.connect()
        await connection.send(f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        for _ in range(20):
            await connection.send(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        reply = await connection.reply()
        assert (reply.status, reply.error["code"]) == (413, "body_too_large")


async def test_a_large_picture_passes_the_default_limit(tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 15_000_000}}
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        reply = await served.ask([{"type": "text", "text": "What is this?"}, picture])
    assert read_stream(reply.body).text == "Hello there."
    assert up.bodies[0]["messages"][0]["content"][1] == picture


async def test_a_silent_connection_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.connection.limited_protocol.HEADER_SECONDS", 0.2)
    async with serving(tmp_path) as served:
        silent, slow = await served.connect(), await served.connect()
        await slow.send(b"POST /chat/completions HTTP/1.1\r\nhost:")
        assert await asyncio.wait_for(silent.reader.read(), 2) == b""
        assert await asyncio.wait_for(slow.reader.read(), 2) == b""


async def test_without_stream_the_reply_is_one_completion(tmp_path: Path) -> None:
    async with upstream(default=says("Hello ", "you")) as up, serving(tmp_path, models={"main": up.url}) as served:
        whole = await served.post(CHAT, {**HI, "stream": False})
        absent = await served.post(CHAT, {"messages": HI["messages"]})
        null = await served.post(CHAT, {**HI, "stream": None})
    for reply in (whole, absent, null):
        completion = reply.json()
        assert completion["object"] == "chat.completion"
        assert completion["choices"][0]["message"]["content"] == "Hello you"
        assert completion["choices"][0]["finish_reason"] == "stop"
    assert all(body["stream"] is True for body in up.bodies)


async def test_the_body_decides_about_streaming_not_the_accept_header(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        json_accepted = await served.post(CHAT, HI, {"accept": "application/json"})
        stream_accepted = await served.post(CHAT, {**HI, "stream": False}, {"accept": "text/event-stream"})
    assert read_stream(json_accepted.body).text
    assert json_accepted.headers["content-type"].startswith("text/event-stream")
    assert stream_accepted.json()["object"] == "chat.completion"


async def test_an_endpoint_can_refuse_requests_that_do_not_stream(tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}, require_stream=True) as served:
        reply = await served.post(CHAT, {**HI, "stream": False})
    assert (reply.status, reply.error["param"]) == (400, "stream")
    assert not up.exchanges, "the paid upstream was asked before the request was refused"


async def test_comments_keep_a_silent_stream_alive(tmp_path: Path) -> None:
    script: list[Action] = [("sleep", 0.35), *says("At last.")]
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}, keepalive_ms=100) as served:
        answer = read_stream((await served.ask()).body)
    assert answer.comments >= 2 and answer.text == "At last."


KEY = "a-key-of-32-characters-or-so-0001"


async def _with_key(served: Any, value: str | None) -> Reply:
    headers = {} if value is None else {"authorization": value}
    reply: Reply = await served.post(CHAT, HI, headers)
    return reply


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer {KEY}", 200),
        ("Bearer wrong-key", 401),
        (KEY, 401),
        ("KEY", 401),
        (f"Basic {KEY}", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Bearer {KEY} {KEY}", 401),
        ("", 401),
        ("Bearer \u00fc\u00df", 401),
        (None, 401),
    ],
)
async def test_only_a_request_with_a_valid_key_is_answered(tmp_path: Path, header: str | None, status: int) -> None:
    async with serving(tmp_path, api_keys={"alice": KEY}) as served:
        reply = await _with_key(served, header)
        models = await served.get("/v1/models", {} if header is None else {"authorization": header})
        public = [(await served.get(path)).status for path in ("/health", "/ready", "/ping")]
    assert reply.status == models.status == status
    assert public == [200, 200, 200]
    if status == 401:
        assert reply.error["type"] == "authentication_error"
        assert reply.headers["www-authenticate"] == "Bearer"
        assert KEY.encode() not in reply.body


async def test_a_running_server_sees_keys_that_the_command_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.access.key_file._SECONDS_BETWEEN_LOOKS", 0.0)
    keys = KeyFile(tmp_path)
    first = keys.create("first")
    async with serving(tmp_path) as served:
        assert (await _with_key(served, f"Bearer {first}")).status == 200
        second = keys.create("second")
        assert (await _with_key(served, f"Bearer {second}")).status == 200
        keys.revoke("first")
        assert (await _with_key(served, f"Bearer {first}")).status == 401
        keys.revoke("second")
        assert (await _with_key(served, f"Bearer {second}")).status == 401, (
            "the server is open after its last key was revoked"
        )
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
    assert first not in (tmp_path / "keys.json").read_text()


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8000"},
        {"host": "localhost/#@evil"},
        {"host": ""},
        {"x-forwarded-for": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"x-forwarded-host": "localhost"},
        {"via": "1.1 tunnel"},
    ],
)
async def test_auth_none_refuses_foreign_hosts_and_forwarded_requests(tmp_path: Path, headers: dict[str, str]) -> None:
    async with serving(tmp_path) as served:
        reply = await served.post(CHAT, HI, headers)
        local = [
            await served.post(CHAT, HI, {"host": host})
            for host in ("localhost", "127.0.0.1:1", "[::1]:8000", "LOCALHOST:80")
        ]
    assert reply.status == 401
    assert "Leave DIALGRAPH_AUTH empty" in reply.error["message"]
    assert [one.status for one in local] == [200] * 4


def test_auth_none_listens_on_loopback_only(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(SettingsError, match="With auth 'none' the server listens on this machine only"):
            create_app(Settings(data_dir=tmp_path, host=host, auth="none"))
    create_app(Settings(data_dir=tmp_path, host="0.0.0.0", api_keys={"a": KEY}))
    with pytest.raises(SettingsError, match="Setting 'auth' is 'keys', but there is no key."):
        create_app(Settings(data_dir=tmp_path, auth="keys"))


async def test_passthrough_sends_the_clients_key_to_the_model(tmp_path: Path) -> None:
    refusal: Action = ("status", 401, {}, b"")
    async with upstream(says("Hi."), [refusal]) as up:
        async with serving(tmp_path, models={"main": up.url}, auth="passthrough", endpoints=("chat",)) as served:
            good = await _with_key(served, "Bearer caller-key")
            bad = await _with_key(served, "Bearer wrong")
            none = await _with_key(served, None)
    assert read_stream(good.body).text == "Hi."
    assert up.exchanges[0].headers["authorization"] == "Bearer caller-key"
    assert (bad.status, bad.error["code"]) == (401, "upstream_unauthorized")
    assert none.status == 401 and len(up.exchanges) == 2


def test_passthrough_refuses_graphs_with_something_to_protect(tmp_path: Path) -> None:
    from dialgraph.graph.errors import GraphError

    def app(**settings: Any) -> Any:
        return create_app(Settings(data_dir=tmp_path, auth="passthrough", **settings))

    with pytest.raises(
        GraphError, match=r"graph 'rag', step 'retrieve': reads the store 'main', .* Mark the graph public"
    ):
        app()
    with pytest.raises(GraphError, match="graph 'chat', step 'call_model': uses the server's key of the model 'main'"):
        app(endpoints=("chat",), models={"main": {"url": "https://x/v1", "api_key": "secret"}})
    app(endpoints=("chat",), models={"main": "https://x/v1"})


async def test_only_the_intended_routes_are_open(tmp_path: Path) -> None:
    public = {"/health", "/ready", "/ping"}
    # These need a password or a token in the body. Without one they return nothing.
    public |= {f"/api/users/{what}{slash}" for what in ("register", "login") for slash in ("", "/")}
    public |= {"/v1/users", "/v1/sessions", "/v1/sessions/refresh"}
    async with serving(tmp_path, api_keys={"alice": KEY}) as served:
        paths = {(route.path, method) for route in _routes(served.app) for method in route.methods - {"HEAD"}}
        open_paths = set()
        for path, method in sorted(paths):
            reply = await served.post(path.replace("{graph}", "rag"), b"{}", None, method)
            if reply.status != 401:
                open_paths.add(path)
    assert open_paths == public
    assert len(paths) > 30


def _routes(app: Any) -> list[Any]:
    """Return every route, also those of included routers."""
    found: list[Any] = []
    waiting = list(app.routes)
    while waiting:
        route = waiting.pop()
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if inner:
            waiting += inner
        elif hasattr(route, "methods"):
            found.append(route)
    return found


@pytest.mark.parametrize("origins", [(), ("https://app.example",)])
async def test_cors_is_closed_unless_an_origin_is_named(tmp_path: Path, origins: tuple[str, ...]) -> None:
    async with serving(tmp_path, cors_origins=origins) as served:
        named = await served.get("/health", {"origin": "https://app.example"})
        evil = await served.get("/health", {"origin": "https://evil.example"})
    assert named.headers.get("access-control-allow-origin") == (origins[0] if origins else None)
    assert "access-control-allow-origin" not in evil.headers
    assert "access-control-allow-credentials" not in named.headers


async def test_an_unexpected_error_reveals_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from dialgraph.graph.spec import Graph, Step
    from dialgraph.turn.node import State, Turn, Update, node

    @node(speaks=True)
    async def breaks(state: State, turn: Turn) -> Update:
        """Raise an error."""
        raise RuntimeError("/secret/path sk-secret")

    @node(speaks=True)
    async def speaks_and_breaks(state: State, turn: Turn) -> Update:
        """Speak, then raise an error."""
        await turn.say("I think ")
        raise RuntimeError("/secret/path sk-secret")

    one = Graph(name="one", steps=(Step("breaks"),))
    two = Graph(name="two", steps=(Step("speaks_and_breaks"),))
    async with serving(tmp_path, (one, [breaks]), (two, [speaks_and_breaks])) as served:
        before = await served.post("/one/chat/completions", HI)
        after = await served.post("/two/chat/completions", HI)
    assert (before.status, before.error["code"], before.error["message"]) == (
        500, "internal_error", "Internal server error. The server's log has the details.",
    )  # fmt: skip
    answer = read_stream(after.body)
    assert answer.text == "I think " and answer.error is not None and answer.error["code"] == "internal_error"
    assert b"secret" not in before.body + after.body


@pytest.mark.parametrize("grace", [0.3, 3.0])
async def test_a_stop_lets_streams_finish_or_ends_them_with_an_error(tmp_path: Path, grace: float) -> None:
    script = [action for _ in range(10) for action in (("chunk", "word "), ("sleep", 0.1))]
    async with upstream(default=[*script, *says("done")]) as up:
        async with serving(tmp_path, models={"main": up.url}, grace_seconds=grace) as served:
            streams = [asyncio.create_task(served.ask()) for _ in range(50)]
            await up.until(lambda: len(up.exchanges) == 50 and all(one.sent for one in up.exchanges))
            waiting = await served.connect()
            served.server.should_exit = True
            began = time.monotonic()
            answers = [read_stream((await stream).body) for stream in streams]
            took = time.monotonic() - began
            assert await waiting.reader.read() == b""
    if grace == 3.0:
        assert all(answer.text.endswith("done") and answer.error is None for answer in answers)
    else:
        assert all(answer.error is not None and answer.error["code"] == "server_shutdown" for answer in answers)
        assert all(answer.text.startswith("word ") for answer in answers)
        assert grace <= took <= grace + 2
        await up.until(lambda: all(exchange.left for exchange in up.exchanges))


async def test_a_stop_ends_a_turn_that_does_not_stream_with_503(tmp_path: Path) -> None:
    async with upstream(default=[("chunk", "a"), ("hang",)]) as up:
        async with serving(tmp_path, models={"main": up.url}, grace_seconds=0.1) as served:
            asked = asyncio.create_task(served.post(CHAT, {**HI, "stream": False}))
            await up.until(lambda: len(up.exchanges) == 1)
            served.server.should_exit = True
            reply = await asked
    assert (reply.status, reply.error["code"]) == (503, "server_shutdown")


def test_an_error_becomes_an_envelope() -> None:
    assert ApiError(400, "No.", param="x").envelope() == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "x", "code": None}
    }
