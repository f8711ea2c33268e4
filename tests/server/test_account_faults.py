"""Faults of accounts that once happened. Each test holds what a user sees now."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from dialgraph.storage.cache import NoCache
from dialgraph.users.accounts import passwords
from dialgraph.users.accounts.encryption import Encryption
from server.access.limiter import Limiter
from server.logs import LineFormatter, set_up_logging
from server.settings import Settings
from tests.server.test_backend_api import backend
from tests.server.test_turn_faults import ENCRYPTION_KEY, words
from tests.server.test_users_api import delete, login
from tests.support.accounts import PASSWORD, Somebody
from tests.support.serving import serving
from tests.support.upstream import upstream


@pytest.fixture
def slow_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a hash take a tenth of a second, so that other things can happen at the same time."""
    monkeypatch.setattr(passwords, "COST", 11)


@pytest.mark.usefixtures("slow_hashes")
async def test_a_new_password_ends_every_login_with_the_old_one(tmp_path: Path, database: str) -> None:
    old = {"name": "ann", "password": PASSWORD}
    async with serving(tmp_path, database_url=database, rates={"login": ""}) as served:
        ann, _ = await login(served)
        body = {"old": PASSWORD, "new": "another password"}
        change = asyncio.create_task(served.post("/v1/me/password", body, ann.headers, "PUT"))
        logins = []
        while not change.done():
            logins.append(asyncio.create_task(served.post("/v1/sessions", old)))
            await asyncio.sleep(0.03)
        assert (await change).status == 204
        sessions = [reply.json() for reply in await asyncio.gather(*logins) if reply.status == 201]
        await asyncio.sleep(1.1)
        for session in sessions:
            reply = await served.post("/v1/sessions/refresh", {"refresh_token": session["refresh_token"]})
            assert reply.status == 401


async def test_an_old_refresh_token_ends_the_session_after_two_renewals_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        _, session = await login(served)
        tokens = [session["refresh_token"]]
        for _ in range(2):
            renewed = await served.post("/v1/sessions/refresh", {"refresh_token": tokens[-1]})
            tokens.append(renewed.json()["refresh_token"])
        assert (await served.post("/v1/sessions/refresh", {"refresh_token": tokens[0]})).status == 401
        assert (await served.post("/v1/sessions/refresh", {"refresh_token": tokens[-1]})).status == 401


async def test_a_user_is_erased_while_another_server_writes(tmp_path: Path, database: str) -> None:
    if database == "sqlite:":
        database = f"sqlite:///{tmp_path / 'shared.db'}"
    settings: dict[str, Any] = {
        "database_url": database, "token_secret": "0123456789abcdefghijklmnopqrstuvwxyz",
        "encryption_keys": ENCRYPTION_KEY, "rates": {"turn": "", "request": ""},
    }  # fmt: skip
    async with upstream(default=words(3)) as up:
        settings |= {"models": {"main": up.url}, "upstreams": {"gpt": up.url}}
        async with serving(tmp_path / "a", **settings) as first, serving(tmp_path / "b", **settings) as second:
            ann, _ = await login(first)
            elsewhere = Somebody(second, ann.token)
            chats = [(await elsewhere.post("/v1/conversations", {})).json()["id"] for _ in range(4)]
            stop, statuses = asyncio.Event(), set()

            async def write(chat: str) -> None:
                while not stop.is_set():
                    statuses.add((await elsewhere.post(f"/v1/conversations/{chat}/messages", {"content": "hi"})).status)
                    statuses.add((await elsewhere.post("/v1/conversations", {"title": "zebra"})).status)
                    statuses.add((await elsewhere.post("/v1/keys", {"name": "x"})).status)

            writing = [asyncio.create_task(write(chat)) for chat in chats]
            await asyncio.sleep(0.3)
            assert (await delete(ann, "/v1/me", {"password": PASSWORD})).status == 204
            await asyncio.sleep(0.3)
            stop.set()
            await asyncio.gather(*writing)
            assert max(statuses) < 500 and 401 in statuses
            assert (await second.post("/v1/sessions", {"name": "ann", "password": PASSWORD})).status == 401
            assert not await second.state.accounts.users.being_erased()
            assert (await second.post("/v1/users", {"name": "ann", "password": PASSWORD})).status == 201


async def test_password_changes_count_against_the_login_rate(tmp_path: Path) -> None:
    async with serving(tmp_path, rates={"login": "5/minute"}) as served:
        ann, _ = await login(served)
        body = {"old": "not this one", "new": "another password"}
        statuses = [(await served.post("/v1/me/password", body, ann.headers, "PUT")).status for _ in range(6)]
        assert statuses == [401] * 5 + [429]


def test_a_forwarded_address_is_believed_from_trusted_proxies_only(tmp_path: Path) -> None:
    limiter = Limiter(Settings(data_dir=tmp_path, trusted_proxies=("10.0.0.0/8",)), NoCache())

    def place(peer: str, forwarded: str | None = None) -> str:
        return limiter.address_of({"type": "http", "client": (peer, 1)}, forwarded)

    assert place("1.2.3.4", "5.6.7.8") == "1.2.3.4", "an address from an untrusted peer is ignored"
    assert place("10.0.0.1", "5.6.7.8") == place("::ffff:10.0.0.1", "5.6.7.8") == "5.6.7.8"
    assert place("10.0.0.1", "9.9.9.9, 5.6.7.8, 10.0.0.2") == "5.6.7.8"
    assert place("::ffff:1.2.3.4") == "1.2.3.4" and place("2001:db8::1") == place("2001:db8::2")
    # No address is used: all clients of an untrusted or silent proxy would share it, and so one limit.
    assert place("127.0.0.1", "5.6.7.8") == place("::1") == place("10.0.0.1") == place("10.0.0.1", "10.0.0.2") == ""


@pytest.mark.parametrize("proxies", [("127.0.0.1",), ()])
async def test_a_strangers_wrong_passwords_do_not_lock_the_owner_out(proxies: tuple[str, ...], tmp_path: Path) -> None:
    async with serving(tmp_path, trusted_proxies=proxies, registration="open", auth="") as served:
        await login(served, "john_doe")
        stranger = {"x-forwarded-for": "203.0.113.7"}
        wrong = {"name": "john_doe", "password": "not this one"}
        tried = [(await served.post("/v1/sessions", wrong, stranger)).status for _ in range(14)]
        right = await served.post("/v1/sessions", {**wrong, "password": PASSWORD}, {"x-forwarded-for": "198.51.100.1"})
    assert right.status == 201
    assert tried == ([401] * 10 + [429] * 4 if proxies else [401] * 14)


async def test_logins_for_one_name_are_limited_across_all_addresses(tmp_path: Path) -> None:
    more: dict[str, Any] = {"trusted_proxies": ("127.0.0.1",), "registration": "open", "auth": ""}
    async with serving(tmp_path, rates={"login_name": "5/minute"}, **more) as served:
        wrong = {"name": "john_doe", "password": "not this one"}
        tried = [
            (await served.post("/v1/sessions", wrong, {"x-forwarded-for": f"203.0.113.{at}"})).status for at in range(7)
        ]
    assert tried == [401] * 5 + [429] * 2


async def test_debug_logs_hold_no_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = "sk-user-0123456789abcdef"
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    set_up_logging("debug")
    caplog.set_level(logging.DEBUG)
    try:
        async with backend(tmp_path) as (served, _):
            ann, session = await login(served)
            made = (await ann.post("/v1/keys", {"name": "x"})).json()["key"]
            chat = (
                await ann.post("/v1/conversations", {"api_key": key, "model": "gpt-4o", "title": "zebrafish"})
            ).json()
            await ann.post(f"/v1/conversations/{chat['id']}/messages", {"content": "zebrafish words"})
            await ann.upload(await ann.base(), "a.md", b"# zebrafish\n\nwords")
            await ann.post("/v1/conversations", b'{"api_key": "sk-user-0123456789abcdef"')
    finally:
        root.handlers[:], root.level = handlers, level
    formatter = LineFormatter("%(message)s")
    written = "\n".join(formatter.format(record) for record in caplog.records)
    secrets = (key, made, PASSWORD, session["access_token"], session["refresh_token"], "zebrafish", "$2b$")
    assert not [secret for secret in secrets if secret in written]


def test_an_encrypted_key_can_be_decrypted_only_in_its_own_row() -> None:
    sealed = Encryption([ENCRYPTION_KEY])
    data = sealed.seal("sk-1", "row-1")
    assert sealed.open(data, "row-1") == "sk-1"
    with pytest.raises(Exception, match="belongs to another row"):
        sealed.open(data, "row-2")


async def test_disabling_or_deleting_a_user_ends_their_streams(tmp_path: Path, database: str) -> None:
    async with backend(tmp_path, database, words(500), words(500)) as (served, up):
        ann, _ = await login(served)
        key = (await ann.post("/v1/keys", {"name": "bot", "scopes": ["chat"]})).json()["key"]
        for goodbye in ("disable", "delete"):
            connection = await served.connect()
            body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
            await connection.send(served.request("/v1/chat/completions", body, {"authorization": f"Bearer {key}"}))
            assert (await connection.head())[0] == 200
            await connection.chunk()
            users = served.state.accounts.users
            if goodbye == "disable":
                await users.set_disabled("ann", True)
            else:
                await served.state.people.erase((await users.known("ann")).id)
            data = b""
            while piece := await asyncio.wait_for(connection.chunk(), 5):
                data += piece
            assert b'"error"' in data and data.endswith(b"data: [DONE]\n\n")
            credentials = {"name": "ann", "password": PASSWORD}
            assert (await served.post("/v1/sessions", credentials)).status == 401, "the right password does not help"
            await users.set_disabled("ann", False)
            await asyncio.sleep(1.1)  # until the cached key has expired
        await up.until(lambda: all(exchange.left is not None for exchange in up.exchanges))


async def test_the_limiter_stores_a_limited_number_of_addresses(tmp_path: Path) -> None:
    limiter = Limiter(Settings(data_dir=tmp_path), NoCache())
    for at in range(100_000):
        await limiter.hit("login_address", f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}")
    assert limiter.windows <= 50_000
