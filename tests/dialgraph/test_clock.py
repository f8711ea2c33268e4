"""The clock moves forward and back by a day while the data stays: order, tokens, leases and limits."""

import json
from pathlib import Path

import pytest

from tests.support.accounts import PASSWORD
from tests.support.server_process import Server
from tests.support.upstream import upstream

LIBRARIES = list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
CREDENTIALS = {"name": "ann", "password": PASSWORD}


@pytest.mark.soak
async def test_a_day_forward_and_back_locks_nobody_out_and_keeps_order(tmp_path: Path) -> None:
    assert LIBRARIES, "libfaketime is missing: `make soak` installs it on Debian and Ubuntu"
    usual = {"login": "10/minute", "turn": "30/minute", "request": "600/minute"}
    said: list[str] = []
    tokens: list[str] = []
    async with upstream() as up:
        chat = ""
        for shift in ("+0d", "+1d", "-1d", "+0d"):
            server = Server(tmp_path, up.url, rates=usual)
            server.more(LD_PRELOAD=str(LIBRARIES[0]), FAKETIME=shift, FAKETIME_DONT_FAKE_MONOTONIC="1")
            await server.start()
            if not chat:
                assert (await server.ask("POST", "/v1/users", CREDENTIALS))[0] == 201
            for old in tokens:
                status, _ = await server.ask("GET", "/v1/me", None, old)
                assert status in (200, 401), "a token of another day may be invalid, but must not cause an error"
            if shift == "+1d":
                assert status == 401, "a token must expire within a day"
            status, body = await server.ask("POST", "/v1/sessions", CREDENTIALS)
            assert status == 201, body
            token = json.loads(body)["access_token"]
            tokens.append(token)
            assert (await server.ask("GET", "/v1/me", None, token))[0] == 200
            if not chat:
                chat = json.loads((await server.ask("POST", "/v1/conversations", {}, token))[1])["id"]
            path = f"/v1/conversations/{chat}/messages"
            for at in range(3):
                said.append(f"{shift} {at}")
                status, body = await server.ask("POST", path, {"content": said[-1]}, token)
                assert status == 200, body
            told = json.loads((await server.ask("GET", path, None, token))[1])["data"]
            assert [one["content"] for one in told[::2]] == said, (
                "messages must be in the order in which they were sent"
            )
            listed = json.loads((await server.ask("GET", "/v1/conversations", None, token))[1])["data"]
            assert [one["id"] for one in listed] == [chat]
            await server.kill()
