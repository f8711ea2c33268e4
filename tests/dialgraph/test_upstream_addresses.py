"""Where a model's server can be: at an address with a query, behind a proxy, with its own authority, or loading."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.server_process import refused_start
from tests.support.serving import serving
from tests.support.upstream import says, upstream
from tests.support.wire import read_stream


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def leading_to(port: int, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """Open a way to the port: TLS in front of it, or a proxy that takes CONNECT.

    Yield the new port, and the list of first lines that the proxy received.
    """
    asked: list[str] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if tls is None:
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head.decode().split("\r\n")[0])
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


def tls_of(authority: trustme.CA, name: str) -> ssl.SSLContext:
    """Return the TLS context of a server with a certificate of this authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.mark.parametrize("ending", ["", "/chat/completions", "/"])
async def test_an_azure_deployment_is_asked_with_its_path_version_and_key(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reach Azure's host through a proxy, which sees the request that Azure would get."""
    async with upstream(default=says("Hi.")) as up:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{up.port}")
        url = f"http://acme.openai.azure.com/openai/deployments/gpt{ending}?api-version=2024-10-21"
        async with serving(tmp_path, models={"main": {"url": url, "api_key": "azure-key"}}) as served:
            reply = await served.ask()
    assert reply.status == 200 and read_stream(reply.body).text == "Hi."
    path = "http://acme.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    assert up.exchanges[0].path == path
    assert up.exchanges[0].headers["api-key"] == "azure-key"


async def not_started(model: dict[str, str], folder: Path) -> str:
    """Return what `dialgraph serve` prints when it refuses to start."""
    models = json.dumps({"main": model})
    return await refused_start(folder, DIALGRAPH_DATA_DIR=str(folder), DIALGRAPH_MODELS=models)


@pytest.mark.parametrize(
    "url", ["https://model.example/v1#x", "https://me:secret@model.example/v1", "https:///v1", "https://h:99999/v1"]
)
async def test_an_invalid_address_stops_the_start_without_showing_its_secrets(url: str, tmp_path: Path) -> None:
    said = await not_started({"url": url}, tmp_path)
    assert "model 'main': the address" in said and "secret" not in said and len(said.splitlines()) == 1


async def test_a_model_is_reached_over_tls_through_the_environments_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    model: dict[str, Any] = {
        "url": "https://model.example/v1",
        "api_key": "sk-model",
        "ca_file": str(tmp_path / "ca.pem"),
    }
    async with (
        upstream(default=says("Hi.")) as up,
        leading_to(up.port, tls=tls_of(authority, "model.example")) as (secure, _),
        leading_to(secure) as (proxy, asked),
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
        async with serving(tmp_path, models={"main": model}) as served:
            reply = await served.ask()
        assert read_stream(reply.body).text == "Hi." and set(asked) == {"CONNECT model.example:443 HTTP/1.1"}
        assert up.exchanges[0].headers["authorization"] == "Bearer sk-model"


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
async def test_hosts_in_no_proxy_and_this_machine_are_asked_directly(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with upstream() as proxy, upstream(default=says("Hi.")) as up:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv(name, "model.example, .inner.example")
        async with serving(tmp_path, models={"main": up.url}) as served:
            assert read_stream((await served.ask()).body).text == "Hi."
        async with serving(tmp_path, models={"main": "http://api.inner.example/v1"}) as served:
            assert (await served.ask()).status == 502, "the host does not exist, and the proxy must not be asked for it"
    assert not proxy.exchanges


async def test_a_private_authority_is_trusted_for_its_own_server_only(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with (
        upstream(default=says("Hi.")) as up,
        leading_to(up.port, tls=tls_of(authority, "localhost")) as (port, _),
    ):
        known = {"url": f"https://localhost:{port}/v1", "ca_file": str(tmp_path / "ca.pem")}
        async with serving(tmp_path, models={"main": known}) as served:
            assert read_stream((await served.ask()).body).text == "Hi."
        async with serving(tmp_path, models={"main": known["url"]}) as served:
            assert (await served.ask()).error["code"] == "upstream_unreachable"


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_an_invalid_file_of_certificates_stops_the_start(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    said = await not_started({"url": "https://model.example/v1", "ca_file": str(tmp_path / "ca.pem")}, tmp_path)
    assert "`ca_file`" in said and str(tmp_path) not in said and len(said.splitlines()) == 1


async def test_a_model_is_loaded_once_even_if_the_first_client_leaves(tmp_path: Path) -> None:
    """Continue to load when the client leaves: Ollama stops loading then, and every other caller would wait again."""
    async with upstream([("sleep", 1.5), *says("x")], default=says("Hi.")) as up:
        model = {"url": up.url, "first_byte_seconds": 1.0, "load_seconds": 60.0, "away_seconds": 0}
        async with serving(tmp_path, models={"main": model}) as served:
            leaving = await served.connect()
            body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
            await leaving.send(served.request("/chat/completions", body))
            await up.until(lambda: len(up.exchanges) == 1)
            leaving.reset()
            replies = await asyncio.gather(*(served.ask() for _ in range(5)))
    assert [read_stream(reply.body).text for reply in replies] == ["Hi."] * 5
    assert [one.body["stream"] for one in up.exchanges] == [False, *[True] * 5], "one load and five turns"


async def test_a_model_that_is_not_loaded_in_time_is_a_timeout(tmp_path: Path) -> None:
    async with upstream([("hang",)]) as up:
        model = {"url": up.url, "first_byte_seconds": 1.0, "load_seconds": 0.5, "away_seconds": 0}
        async with serving(tmp_path, models={"main": model}) as served:
            reply = await served.ask()
            assert reply.status == 504 and reply.error["code"] == "upstream_timeout"
            assert read_stream((await served.ask()).body).text == "Hello there.", "the next turn must be answered"
