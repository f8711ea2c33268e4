"""Upstreams that users name: which addresses are refused, and which keys never go there."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from dialgraph.graph.spec import Graph, Step
from dialgraph.models.relay.user_upstreams import AddressError, UserUpstreams, is_public
from tests.server.test_backend_api import backend
from tests.server.test_turn_faults import listen, words
from tests.server.test_users_api import login
from tests.support.accounts import somebody
from tests.support.serving import serving
from tests.support.upstream import Action, upstream


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "::1", "::", "fe80::1",
        "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1", "2002:7f00:1::1", "2001:0:7f00:1::1", "5f00::1", "2001:db8::1",
        "192.0.0.8", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.175.48.1",
        "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1", "255.255.255.255", "2001:2::1", "2001:10::1",
        "2001:20::1", "2620:4f:8000::1", "3fff::1", "64:ff9b::c000:c0",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(AddressError):
        UserUpstreams().check(f"https://[{address}]/v1" if ":" in address else f"https://{address}/v1")


def test_public_addresses_are_accepted() -> None:
    assert all(is_public(ip_address(one)) for one in ("1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"))


async def test_a_name_with_a_private_address_is_not_connected_to(tmp_path: Path) -> None:
    """Use `localhost` as a name with a private address. The address decides, so DNS rebinding does not help."""
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        ann, _ = await login(served)
        for host in ("localhost", "localhost.", "127.1", "2130706433", "0x7f.1"):
            url = f"https://{host}:{up.port}/v1"
            made = await ann.post("/v1/conversations", {"base_url": url})
            if made.status == 201:
                path = f"/v1/conversations/{made.json()['id']}/messages"
                assert (await ann.post(path, {"content": "hi"})).error["code"] == "upstream_unreachable", host
        assert not up.exchanges and up.open <= 4, "only the server's own connections are open"


async def test_a_users_upstream_never_gets_the_servers_key(tmp_path: Path) -> None:
    async with upstream() as up:
        main = {"url": up.url, "api_key": "server-key-0123456789"}
        async with serving(tmp_path, models={"main": main}, private_hosts=["127.0.0.1"]) as served:
            ann, _ = await login(served)
            chat = (await ann.post("/v1/conversations", {"base_url": up.url, "model": "own"})).json()["id"]
            await ann.post(f"/v1/conversations/{chat}/messages", {"content": "hi"})
    assert up.bodies[0]["model"] == "own" and "authorization" not in up.exchanges[0].headers


async def test_many_upstreams_of_one_user_cut_no_running_call(tmp_path: Path) -> None:
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


async def test_an_endless_answer_is_cut(tmp_path: Path) -> None:
    endless: list[Action] = [*[("chunk", "x" * 100_000)] * 110, ("finish", "stop"), ("done",)]
    async with backend(tmp_path, "sqlite:", endless) as (served, _):
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {})).json()["id"]
        reply = await ann.post(f"/v1/conversations/{chat}/messages", {"content": "hi"})
        assert reply.error["code"] == "upstream_malformed"


async def test_our_own_keys_are_never_sent_to_a_model(tmp_path: Path) -> None:
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
