"""Access to the server: the token while there are no keys, requests through proxies, and faults, which open nothing."""

import asyncio
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dialgraph.project import ROOT
from dialgraph.users.accounts.key_hash import hash_of
from server.access.access_token import access_token
from server.access.key_file import KeyFile
from server.app import create_app
from server.settings import Settings, SettingsError
from tests.support.proxies import in_front
from tests.support.server_process import serve_command
from tests.support.serving import CHAT, serving
from tests.support.upstream import says, upstream
from tests.support.wire import read_stream

HI = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
OPEN = {"/health", "/ready", "/ping"}


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_without_keys_only_the_health_routes_need_no_token(tmp_path: Path) -> None:
    from tests.server.test_http import _routes

    async with serving(tmp_path, auth="") as served:
        token = access_token(tmp_path)
        answered = set()
        for route in _routes(served.app):
            for method in route.methods - {"HEAD"}:
                path = re.sub(r"\{\w+(:\w+)?\}", "1", route.path)
                bare = await served.post(path, b"{}", None, method)
                wrong = await served.post(path, b"{}", _bearer("dg_" + "x" * 43), method)
                assert bare.status == wrong.status, path
                if bare.status != 401:
                    answered.add(route.path)
        right = await served.post(CHAT, HI, _bearer(token))
    assert answered == OPEN
    assert right.status == 200 and read_stream(right.body).finish == "stop"


async def test_registration_and_login_need_the_token_unless_registration_is_open(tmp_path: Path) -> None:
    ann = {"name": "ann", "password": "correct horse battery"}
    async with serving(tmp_path, auth="") as served:
        token = _bearer(access_token(tmp_path))
        refused = [await served.post(path, ann) for path in ("/v1/users", "/v1/sessions")]
        made = [await served.post(path, ann, token) for path in ("/v1/users", "/v1/sessions")]
        session = made[1].json()
        me = await served.get("/v1/me", _bearer(session["access_token"]))
        operator = await served.get("/v1/me", token)
    async with serving(tmp_path / "open", auth="", registration="open") as served:
        opened = [await served.post(path, ann) for path in ("/v1/users", "/v1/sessions")]
        endpoints = await served.post(CHAT, HI)
    assert [reply.status for reply in refused] == [401, 401]
    assert [reply.status for reply in made] == [201, 201]
    assert me.status == 200 and operator.status == 401
    assert [reply.status for reply in opened] == [201, 201] and endpoints.status == 401


@pytest.mark.parametrize("program", ["nginx", "haproxy", "caddy", "tunnel"])
async def test_a_request_through_a_proxy_or_tunnel_needs_the_token(program: str, tmp_path: Path) -> None:
    async with serving(tmp_path / "data", auth="") as served, in_front(program, served.port, tmp_path) as port:
        front = replace(served, port=port)
        refused = [
            await front.post(CHAT, HI, {"host": host, **key})
            for host in (f"127.0.0.1:{port}", "localhost", "evil.example")
            for key in ({}, _bearer("any"))
        ]
        registered = await front.post("/v1/users", {"name": "eve", "password": "correct horse battery"})
        right = await front.post(CHAT, HI, _bearer(access_token(tmp_path / "data")))
        health = await front.get("/health")
    assert {reply.status for reply in refused} == {401} and registered.status == 401
    assert right.status == health.status == 200 and read_stream(right.body).finish == "stop"


async def _printed(process: asyncio.subprocess.Process, last: str) -> str:
    """Return what the server prints at its start, up to this text."""
    assert process.stdout is not None
    text = ""
    while last not in text:
        line = await process.stdout.readline()
        assert line, text
        text += line.decode()
    return text


async def _shell(command: str, folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    return (await process.communicate())[0].decode()


async def test_the_start_commands_work_and_a_restart_keeps_the_token(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    from_readme = re.search(r"curl -N .*?'\n", readme, re.DOTALL)
    assert from_readme is not None
    printed = []
    for _ in range(2):
        async with serve_command(tmp_path) as process:
            printed.append(await _printed(process, "Can I bring"))
            port = re.search(r"127\.0\.0\.1:(\d+)", printed[-1])
            assert port is not None
            pasted = printed[-1][printed[-1].index("curl -N") :]
            answers = [
                await _shell(f"for i in $(seq 50); do {wait} && break; sleep .1; done; {command}", tmp_path)
                for wait in [f"curl -sf 127.0.0.1:{port[1]}/ready >/dev/null"]
                for command in (pasted, from_readme[0].replace(":8000", f":{port[1]}"))
            ]
            assert all("Dogs" in answer and "data: [DONE]" in answer for answer in answers), answers
            checked = await _shell(f"{sys.executable} -m server.cli check http://127.0.0.1:{port[1]}/rag/v1", tmp_path)
            assert "rules kept" in checked, checked
    tokens = {word for text in printed for word in re.findall(r"dg_[\w-]{43}", text)}
    assert tokens == {access_token(tmp_path / "data")}
    assert (tmp_path / "data" / "access.token").stat().st_mode & 0o777 == 0o600


async def test_auth_none_warns_at_the_start(tmp_path: Path) -> None:
    async with serve_command(tmp_path, DIALGRAPH_AUTH="none") as process:
        assert "through a proxy or tunnel" in await _printed(process, "Anybody who reaches this port is answered")


async def test_a_key_created_while_the_server_runs_replaces_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.access.key_file._SECONDS_BETWEEN_LOOKS", 0.0)
    async with serving(tmp_path, auth="") as served:
        token = access_token(tmp_path)
        before = await served.post(CHAT, HI, _bearer(token))
        key = KeyFile(tmp_path).create("bot")
        with_key = await served.post(CHAT, HI, _bearer(key))
        with_token = await served.post(CHAT, HI, _bearer(token))
        KeyFile(tmp_path).revoke("bot")
        revoked = [(await served.post(CHAT, HI, _bearer(one))).status for one in (key, token)]
    assert [before.status, with_key.status, with_token.status] == [200, 200, 401]
    assert revoked == [401, 401], "the server is open after its last key was revoked"


def _key_files() -> list[Any]:
    whole = f'{{"bot": "{hash_of("dg_x")}", "other": "{hash_of("dg_y")}"}}'
    return [
        *(pytest.param(whole[:size].encode(), id=f"torn at {size}") for size in (0, 1, 20, len(whole) - 1)),
        pytest.param(b"[]", id="list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"bot": null}', id="no hash"),
        pytest.param(b'{"bot": ""}', id="empty hash"),
        pytest.param(b"\x00" * 80, id="zeros"),
        pytest.param(None, id="folder"),
    ]


@pytest.mark.parametrize("content", _key_files())
async def test_a_damaged_key_file_stops_the_start_and_refuses_every_request(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.access.key_file._SECONDS_BETWEEN_LOOKS", 0.0)
    key = KeyFile(tmp_path).create("bot")
    async with serving(tmp_path) as served:
        assert (await served.post(CHAT, HI, _bearer(key))).status == 200
        _damage(tmp_path / "keys.json", content)
        running = [await served.post(CHAT, HI, headers) for headers in ({}, _bearer(key), _bearer(""))]
    assert {reply.status for reply in running} == {401}
    for auth in ("", "keys", "none", "passthrough"):
        with pytest.raises(SettingsError, match="keys.json in the data folder cannot be read"):
            create_app(Settings(data_dir=tmp_path, auth=auth))


def test_a_broken_link_to_a_key_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys.json").symlink_to(tmp_path / "gone")
    with pytest.raises(SettingsError, match="keys.json in the data folder cannot be read"):
        create_app(Settings(data_dir=tmp_path))


def _damage(path: Path, content: bytes | None) -> None:
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)


async def test_a_lost_key_file_lets_nobody_in_without_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.access.key_file._SECONDS_BETWEEN_LOOKS", 0.0)
    key = KeyFile(tmp_path).create("bot")
    async with serving(tmp_path) as served:
        (tmp_path / "keys.json").unlink()
        running = [(await served.post(CHAT, HI, headers)).status for headers in ({}, _bearer(key))]
    async with serving(tmp_path, auth="") as served:
        again = [(await served.post(CHAT, HI, headers)).status for headers in ({}, _bearer(key))]
    assert running == again == [401, 401]


@pytest.mark.parametrize("name", ["access.token", "token.secret", "encryption.key"])
@pytest.mark.parametrize("content", [b"", b"dg_short", b"dg_" + b"a" * 43, b"\xff\xfe" * 40, None])
async def test_a_damaged_secret_stops_the_start_with_one_sentence(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    async with serving(tmp_path, auth=""):
        pass
    _damage(tmp_path / name, content)
    with pytest.raises(SettingsError) as refused:
        create_app(Settings(data_dir=tmp_path))
    assert "\n" not in str(refused.value) and str(tmp_path) not in str(refused.value)


async def test_our_tokens_never_reach_a_provider(tmp_path: Path) -> None:
    ann = {"name": "ann", "password": "correct horse battery"}
    async with upstream(default=says("Hi.")) as up:
        settings = {"models": {"main": up.url}, "endpoints": ("chat",), "registration": "open"}
        async with serving(tmp_path, auth="passthrough", **settings) as served:
            await served.post("/v1/users", ann)
            session = (await served.post("/v1/sessions", ann)).json()
            access, refresh = session["access_token"], session["refresh_token"]
            await served.post("/v1/sessions/current", b"", _bearer(access), "DELETE")
            ours = (access, access[:-2], refresh, refresh.partition(".")[0], "dg_" + "x" * 43)
            replies = [await served.post(CHAT, HI, _bearer(token)) for token in ours]
            theirs = await served.post(CHAT, HI, _bearer("sk-theirs"))
    assert [reply.status for reply in replies] == [401] * 5
    assert theirs.status == 200 and [one.headers["authorization"] for one in up.exchanges] == ["Bearer sk-theirs"]
