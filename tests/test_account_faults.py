"""What went wrong with accounts once, each with the outcome that a user sees now."""

import asyncio
import logging
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text as sql

import accounts.passwords
from accounts.sealed import Sealed
from cache.port import NoCache
from graphs.policy import Policy
from graphs.spec import Graph, Step
from models.vetted import AddressError, VettedUpstreams, is_public
from server.limiter import Limiter
from server.logs import LineFormatter, set_up_logging
from server.settings import USUAL_RATES, Settings
from tests.accounts import PASSWORD, Somebody, answer, somebody
from tests.serving import serving
from tests.test_backend_api import backend, files_with
from tests.test_turn_faults import ENCRYPTION_KEY, listen, words
from tests.test_users_api import delete, login
from tests.upstream import Action, says, upstream


@pytest.fixture
def slow_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that take a tenth of a second, so that something can happen meanwhile."""
    monkeypatch.setattr(accounts.passwords, "COST", 11)


async def test_an_answer_with_nul_harms_nobody(tmp_path: Path, database: str) -> None:
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
        assert turn.state == "open" and turn.answer.startswith(heard[:20]), "others are still noted"
        connection.reset()


@pytest.mark.usefixtures("slow_hashes")
async def test_a_login_with_the_old_password_does_not_outlive_it(tmp_path: Path, database: str) -> None:
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


async def test_a_stolen_refresh_token_is_noticed_late_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        _, session = await login(served)
        tokens = [session["refresh_token"]]
        for _ in range(2):
            renewed = await served.post("/v1/sessions/refresh", {"refresh_token": tokens[-1]})
            tokens.append(renewed.json()["refresh_token"])
        assert (await served.post("/v1/sessions/refresh", {"refresh_token": tokens[0]})).status == 401
        assert (await served.post("/v1/sessions/refresh", {"refresh_token": tokens[-1]})).status == 401


async def test_erasing_while_another_server_writes(tmp_path: Path, database: str) -> None:
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


async def test_a_base_whose_embedder_is_gone_can_be_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path, embedders={"extra": "hashing:"}) as served:
        ann, _ = await login(served)
        base = (await ann.post("/v1/knowledge-bases", {"name": "x", "embedder": "extra"})).json()["id"]
        assert (await ann.upload(base, "a.md", b"# Zebras\n\nThey are striped.")).status == 200
    async with serving(tmp_path) as served:
        ann = Somebody(served, ann.token)
        refused = await ann.post(f"/v1/knowledge-bases/{base}/search", {"query": "Zebras"})
        assert (refused.status, refused.error["code"]) == (409, "unknown_embedder")
        assert (await delete(ann, f"/v1/knowledge-bases/{base}")).status == 204
    assert not files_with(tmp_path, "striped")


async def test_deleting_a_conversation_deletes_what_was_remembered_of_it(tmp_path: Path) -> None:
    from tests.test_memory import FLOW
    from tests.upstream import calls

    script: list[list[Action]] = [[*calls("remember", '{"name":"Zebrafish"}')], says("Which day?")]
    async with upstream(*script) as up, serving(tmp_path, (FLOW, []), models={"main": up.url}) as served:
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {"graph": "booking"})).json()["id"]
        await ann.post(f"/v1/conversations/{chat}/messages", {"content": "I am somebody"})
        assert files_with(tmp_path, "Zebrafish")
        assert (await delete(ann, f"/v1/conversations/{chat}")).status == 204
        assert not files_with(tmp_path, "Zebrafish")


async def test_a_refused_file_leaves_no_byte(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ann = await somebody(served)
        base = await ann.base("zebrafish base")
        assert (await ann.upload(base, "bad.pdf", b"%PDF-1.7 zebrafish words")).status == 422
        assert not files_with(tmp_path, "zebrafish words")
        assert (await ann.post("/api/rag/kb/delete", {"kb_id": base})).status == 200
        assert not files_with(tmp_path, "zebrafish")


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/knowledge-bases"])
async def test_odd_cursors_and_ids_are_no_fault_of_the_server(path: str, tmp_path: Path, database: str) -> None:
    import base64

    async with serving(tmp_path, database_url=database) as served:
        ann, _ = await login(served)
        made = (await ann.post(path, {"name": "x", "title": "x"})).json()["id"]
        for place in ("1.a\0b", "99999999999999999999.a", "x.y", "-1.a"):
            cursor = base64.urlsafe_b64encode(place.encode()).decode()
            assert (await ann.get(f"{path}?cursor={cursor}")).status == 400
        far = base64.urlsafe_b64encode(b"9999999999999.").decode()
        below = {"/v1/conversations": "messages", "/v1/knowledge-bases": "documents"}[path]
        assert (await ann.get(f"{path}/{made}/{below}?cursor={far}")).status == 200
        for name in ("a%00b", "%ff", "x" * 64, "..%2f..%2fetc"):
            assert (await ann.get(f"{path}/{name}")).status == 404
            assert (await ann.get(f"{path}/{made}/jobs/{name}")).status == 404


async def test_odd_bodies_are_no_fault_of_the_server(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, database_url=database) as served:
        ann, _ = await login(served)
        base = await ann.base()
        assert (await ann.post("/api/rag/kb/create", b'{"kb_name": "a\\u0000b"}')).status == 400
        assert (await ann.post("/v1/conversations", b'{"title": "\\ud800"}')).status == 400
        assert (await ann.post("/v1/conversations", {"api_key": "sk-\nfoo", "model": "gpt-4o"})).status == 400
        assert (await ann.post("/v1/conversations", b"[" * 100_000)).status == 400
        for url in ("https://a..b/v1", "https://.example", f"https://{'a' * 64}.example", "https://127.0.0.1/v1"):
            assert (await ann.post("/v1/conversations", {"base_url": url})).error["code"] == "address_refused", url
        for kind in ("multipart/form-data; boundary=limit; charset=undefined", "multipart/form-data", "text/plain"):
            reply = await ann.post("/api/rag/doc/upload", b"--limit\r\n\r\nx", **{"content-type": kind})
            assert reply.status in (400, 415), kind
        assert (await ann.get(f"/api/rag/doc/list?kb_id={base}")).json()["docs"] == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "::1", "::", "fe80::1",
        "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1", "2002:7f00:1::1", "2001:0:7f00:1::1", "5f00::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(AddressError):
        VettedUpstreams().check(f"https://[{address}]/v1" if ":" in address else f"https://{address}/v1")


def test_addresses_that_are_public() -> None:
    assert all(is_public(ip_address(one)) for one in ("1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"))


async def test_a_name_that_leads_inside_is_not_connected_to(tmp_path: Path) -> None:
    """`localhost` is any name whose look-up gives a private address: rebound or not, the address decides."""
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        ann, _ = await login(served)
        for host in ("localhost", "localhost.", "127.1", "2130706433", "0x7f.1"):
            url = f"https://{host}:{up.port}/v1"
            made = await ann.post("/v1/conversations", {"base_url": url})
            if made.status == 201:
                path = f"/v1/conversations/{made.json()['id']}/messages"
                assert (await ann.post(path, {"content": "hi"})).error["code"] == "upstream_unreachable", host
        assert not up.exchanges and up.open <= 4, "the server's own connections, and no other"


async def test_a_users_address_gets_no_key_of_ours(tmp_path: Path) -> None:
    async with upstream() as up:
        main = {"url": up.url, "api_key": "server-key-0123456789"}
        async with serving(tmp_path, models={"main": main}, private_hosts=["127.0.0.1"]) as served:
            ann, _ = await login(served)
            chat = (await ann.post("/v1/conversations", {"base_url": up.url, "model": "own"})).json()["id"]
            await ann.post(f"/v1/conversations/{chat}/messages", {"content": "hi"})
    assert up.bodies[0]["model"] == "own" and "authorization" not in up.exchanges[0].headers


async def test_many_upstreams_of_one_user_cut_nobody(tmp_path: Path) -> None:
    async with backend(tmp_path, "sqlite:", words(60), private_hosts=["127.0.0.1"]) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation(api_key="sk-1")
        connection, _ = await listen(ann, number, "Count", 3)
        for at in range(80):
            served.state.upstreams.model(f"https://host-{at}.example/v1")
        data = b""
        while piece := await connection.chunk():
            data += piece
        assert b'"done"' in data


async def test_an_answer_without_end_is_cut(tmp_path: Path) -> None:
    endless: list[Action] = [*[("chunk", "x" * 100_000)] * 110, ("finish", "stop"), ("done",)]
    async with backend(tmp_path, "sqlite:", endless) as (served, _):
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {})).json()["id"]
        reply = await ann.post(f"/v1/conversations/{chat}/messages", {"content": "hi"})
        assert reply.error["code"] == "upstream_malformed"


async def test_words_behind_a_failure_are_kept_as_they_were_heard(tmp_path: Path) -> None:
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
            assert again["choices"][0]["message"]["content"] == "Whole.", "what failed is run again"


async def test_what_was_said_in_sound_is_kept(tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {"graph": "audio"})).json()["id"]
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        header = {"x-dialgraph-conversation": chat}
        await ann.post("/audio/chat/completions", body, **header)
        told = (await ann.get(f"/v1/conversations/{chat}/messages")).json()["data"]
        assert told[1]["content"] == "Hello there."


async def test_nobody_turns_up_for_a_client_that_left_while_he_waited(tmp_path: Path, database: str) -> None:
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
        assert [text for role, text in await ann.history(number) if role == "user"] == ["One", "now"]


async def test_a_cut_turn_is_not_told_as_whole_when_the_conversation_has_gone_on(tmp_path: Path) -> None:
    half: list[Action] = [("chunk", "Half a"), ("fin",)]
    async with backend(tmp_path, "sqlite:", half, says("Next.")) as (served, _):
        ann = await somebody(served)
        number = await ann.conversation()
        await ann.post(f"/api/chat/{number}", {"message": "hi"}, **{"idempotency-key": "a"})
        answer(await ann.say(number, "go on"))
        again = await ann.post(f"/api/chat/{number}", {"message": "hi"}, **{"idempotency-key": "a"})
        assert again.status == 409


async def test_a_turn_that_could_not_begin_blocks_nothing(tmp_path: Path) -> None:
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
        assert asyncio.get_running_loop().time() - began < 2


async def test_one_user_has_so_many_streams_and_titles_are_turns(tmp_path: Path) -> None:
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


async def test_showing_a_password_is_counted_like_a_login(tmp_path: Path) -> None:
    async with serving(tmp_path, rates={"login": "5/minute"}) as served:
        ann, _ = await login(served)
        body = {"old": "not this one", "new": "another password"}
        statuses = [(await served.post("/v1/me/password", body, ann.headers, "PUT")).status for _ in range(6)]
        assert statuses == [401, 401, 401, 401, 429, 429], "one was the login itself"


async def test_two_slow_uploads_hold_up_nobody_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ann, bob = await somebody(served, "ann"), await somebody(served, "bob")
        base = await bob.base()
        head = {**ann.headers, "content-type": "multipart/form-data; boundary=limit", "content-length": "100000"}
        for _ in range(2):
            connection = await served.connect()
            await connection.send(served.request("/api/rag/doc/upload", b"--limit\r\n", head))
        for _ in range(100):
            if served.state.uploading.total() == 2:
                break
            await asyncio.sleep(0.02)
        assert (await ann.upload(await ann.base(), "a.md", b"# A\n\nText.")).status == 429
        assert (await bob.upload(base, "a.md", b"# A\n\nText.")).status == 200


async def test_our_own_keys_are_handed_to_no_model(tmp_path: Path) -> None:
    graph = Graph(name="open", public=True, steps=(Step("call_model"),))
    async with upstream() as up:
        settings = {"models": {"main": up.url}, "auth": "passthrough", "endpoints": ["chat"], "registration": "open"}
        async with serving(tmp_path, (graph, []), **settings) as served:
            ann, _ = await login(served)
            key = (await ann.post("/v1/keys", {"name": "x", "scopes": ["chat"]})).json()["key"]
            body = {"messages": [{"role": "user", "content": "hi"}]}
            for bearer in (key, ann.token, "dg_unknown-key-0123456789", "sk-the-callers-own"):
                await served.post("/chat/completions", body, {"authorization": f"Bearer {bearer}"})
    assert {exchange.headers.get("authorization") for exchange in up.exchanges} == {None, "Bearer sk-the-callers-own"}


def test_places_that_requests_come_from(tmp_path: Path) -> None:
    limiter = Limiter(Settings(data_dir=tmp_path, trusted_proxies=("10.0.0.0/8",)), NoCache())

    def place(peer: str, forwarded: str | None = None) -> str:
        return limiter.address_of({"type": "http", "client": (peer, 1)}, forwarded)

    assert place("1.2.3.4", "5.6.7.8") == "1.2.3.4", "what a stranger writes is not believed"
    assert place("10.0.0.1", "5.6.7.8") == place("::ffff:10.0.0.1", "5.6.7.8") == "5.6.7.8"
    assert place("10.0.0.1", "9.9.9.9, 5.6.7.8, 10.0.0.2") == "5.6.7.8"
    assert place("::ffff:1.2.3.4") == "1.2.3.4" and place("2001:db8::1") == place("2001:db8::2")


async def test_nothing_secret_is_logged_at_debug(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_sealed_key_opens_in_its_own_row_only() -> None:
    sealed = Sealed([ENCRYPTION_KEY])
    data = sealed.seal("sk-1", "row-1")
    assert sealed.open(data, "row-1") == "sk-1"
    with pytest.raises(Exception, match="belongs to another row"):
        sealed.open(data, "row-2")


async def test_streams_of_a_user_who_is_disabled_or_deleted_end(tmp_path: Path, database: str) -> None:
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
            await users.set_disabled("ann", False)
            await asyncio.sleep(1.1)  # what was known of the key is forgotten
        await up.until(lambda: all(exchange.left is not None for exchange in up.exchanges))


def _deep(depth: int) -> bytes:
    return b'{"title": ' + b"[" * depth + b"]" * depth + b"}"


_BODIES = [
    _deep(100_000), b'{"title": NaN}', b'{"title": 1e400}', b'{"title": "a", "title": 7}', b'{"title": "\\u0000"}',
    b'{"title": "\\udfff"}', b'{"title": "' + b"x" * 900_000 + b'"}', b"\xff\xfe", b"", b"null", b"[]", b'"x"',
    b'{"title": ' + b"9" * 5000 + b"}", b'{"title": {"$ne": 1}}',
]  # fmt: skip


async def test_bodies_that_make_no_sense(tmp_path: Path) -> None:
    async with serving(tmp_path, rates=dict.fromkeys(USUAL_RATES, "")) as served:
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {})).json()["id"]
        for body in _BODIES:
            for path in (
                "/v1/conversations",
                "/api/conversations/create",
                "/v1/keys",
                "/v1/sessions",
                "/api/users/login",
            ):
                began = asyncio.get_running_loop().time()
                reply = await ann.post(path, body)
                assert 400 <= reply.status < 500, (path, reply.status, body[:40])
                assert asyncio.get_running_loop().time() - began < 1
            assert (await ann.post(f"/v1/conversations/{chat}/messages", body)).status == 400, body[:40]


def _multipart(*parts: bytes) -> bytes:
    return b"".join(b"--limit\r\n" + part + b"\r\n" for part in parts) + b"--limit--\r\n"


_FILE = b'content-disposition: form-data; name="file"; filename="a.md"\r\n\r\n# A\n\nText.'
_FIELD = b'content-disposition: form-data; name="x"\r\n\r\ny'


_FORMS = [
    (_multipart(*[_FIELD] * 1001, _FILE), "multipart/form-data; boundary=limit"),
    (_multipart(b"x: y\r\n" * 100_000 + _FILE), "multipart/form-data; boundary=limit"),
    (_multipart(*[_FILE] * 50), "multipart/form-data; boundary=limit"),
    (_multipart(_FIELD[:-1] + b"y" * 100_000), "multipart/form-data; boundary=limit"),
    (b"x" * 1_000_000 + _multipart(_FILE), "multipart/form-data; boundary=limit"),
    (_multipart(_FILE), "multipart/form-data"),
    (_multipart(_FILE), f"multipart/form-data; boundary={'x' * 10_000}"),
    (_multipart(_FILE)[:-30], "multipart/form-data; boundary=limit"),
    (b"", "multipart/form-data; boundary=limit"),
    (b'{"file": "x"}', "application/json"),
]


async def test_forms_that_make_no_sense(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ann, _ = await login(served)
        base = await ann.base()
        for body, kind in _FORMS:
            began = asyncio.get_running_loop().time()
            reply = await ann.post(f"/v1/knowledge-bases/{base}/documents", body, **{"content-type": kind})
            assert reply.status in (400, 415), (kind[:60], reply.body)
            assert asyncio.get_running_loop().time() - began < 2
        assert served.state.uploading.total() == 0
        assert (await ann.get(f"/v1/knowledge-bases/{base}/documents")).json()["data"] == []


async def test_files_that_are_too_large_are_refused_while_they_come(tmp_path: Path) -> None:
    async with serving(tmp_path, upload_limit_mb=1) as served:
        ann = await somebody(served)
        base = await ann.base()
        assert (await ann.upload(base, "a.txt", b"word " * 300_000)).status == 413
        head = {**ann.headers, "content-type": "multipart/form-data; boundary=limit", "transfer-encoding": "chunked"}
        connection = await served.connect()
        lines = served.request("/api/rag/doc/upload", b"", head).replace(b"content-length: 0\r\n", b"")
        await connection.send(lines)
        sent = 0
        start = b'--limit\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        piece = start + b"word " * 20_000
        with suppress(ConnectionError):
            while sent < 5_000_000 and not connection.reader._buffer:  # type: ignore[attr-defined]  # has it answered?
                await connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                sent += len(piece)
                await asyncio.sleep(0.005)
        assert (await connection.head())[0] == 413 and sent < 2_000_000, "told before the rest was sent"


_QUERIES = ['"', "' OR 1=1 --", "NEAR(a b)", "a* AND", "%_%", "{x}", "\\", "🦓" * 50, "x" * 3900, "的" * 3000, "\u202e"]


async def test_questions_are_no_syntax(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ann = await somebody(served)
        base = await ann.base()
        await ann.upload(base, "a.md", b"# Zebras\n\nThey are striped.")
        for query in _QUERIES:
            reply = await ann.post("/api/rag/retrieve", {"kb_id": base, "query": query, "top_k": 10**9})
            assert reply.status == 200 and reply.json()["success"], reply.body
            assert (await ann.get("/v1/conversations?search=" + quote(query[:250]))).status == 200


async def test_a_hundred_thousand_addresses_fill_no_memory(tmp_path: Path) -> None:
    limiter = Limiter(Settings(data_dir=tmp_path), NoCache())
    for at in range(100_000):
        await limiter.hit("login_address", f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}")
    assert await limiter.counters.size() <= 50_000


async def test_deleting_a_base_while_files_come_in(tmp_path: Path, database: str) -> None:
    text = "".join(f"# Part {at}\n\nZebrafish number {at}.\n\n" for at in range(1500)).encode()
    async with serving(tmp_path, database_url=database) as served:
        ann, _ = await login(served)
        base = await ann.base()
        coming = [asyncio.create_task(ann.upload(base, f"{at}.md", text)) for at in range(2)]
        await asyncio.sleep(0.5)
        assert (await delete(ann, f"/v1/knowledge-bases/{base}")).status == 204
        assert {reply.status for reply in await asyncio.gather(*coming)} <= {200, 404, 422, 503}
        async with served.state.services.database.reading() as connection:
            passages = "SELECT count(*) FROM knowledge_passage WHERE text LIKE 'Zebrafish%'"
            jobs = "SELECT count(*) FROM knowledge_job"
            assert [await connection.scalar(sql(wanted)) for wanted in (passages, jobs)] == [0, 0]
        if database == "sqlite:":
            assert not files_with(tmp_path, "Zebrafish number 1499")


async def test_fifty_uploads_at_once_are_taken_in_turn(tmp_path: Path) -> None:
    async with serving(tmp_path, rates={"upload": ""}) as served:
        users = [await somebody(served, f"user-{at}") for at in range(10)]
        bases = [await who.base() for who in users]
        text = b"# Zebras\n\n" + b"They are striped. " * 20_000
        sending = [users[at % 10].upload(bases[at % 10], f"{at}.md", text) for at in range(50)]
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, served.state.uploading.total())
                await asyncio.sleep(0.001)

        watching = asyncio.create_task(watch())
        replies = await asyncio.gather(*sending)
        watching.cancel()
        statuses = [reply.status for reply in replies]
        assert set(statuses) <= {200, 429} and statuses.count(200) >= 8 and most <= 8
        assert served.state.uploading.total() == 0
