"""Clients that leave at any moment, or use rare parts of HTTP: nothing keeps running after a client has left."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.compile import compile_graph
from dialgraph.graph.spec import Graph, Step
from dialgraph.run.run import run_turn, running
from dialgraph.services.services import OpenServices
from dialgraph.services.settings import GraphSettings
from dialgraph.turn.node import State, Turn, TurnRequest, Update, node
from tests.support.serving import Connection, serving
from tests.support.upstream import Action, Upstream, delta, says, upstream
from tests.support.wire import read_stream

STREAMS = 100

PHASES: dict[str, list[Action]] = {
    "request sent": [("hang",)],
    "headers sent": [("headers",), ("hang",)],
    "mid-stream": [*[("chunk", f"word {at} ") for at in range(5)], ("hang",)],
    "words flowing": [("chunk", "word "), ("sleep", 0.2)] * 1_000,
}


async def _begin(connection: Connection, request: bytes, phase: str) -> None:
    await connection.send(request)
    if phase in ("mid-stream", "words flowing"):
        await connection.head()
        await connection.chunk()


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("path", ["/chat/completions", "/rag/chat/completions"])
async def test_a_client_that_leaves_closes_the_upstream(tmp_path: Path, phase: str, how: str, path: str) -> None:
    async with upstream(default=PHASES[phase]) as up, serving(tmp_path, models={"main": up.url}) as served:

        def asks(number: int) -> bytes:
            body = {"messages": [{"role": "user", "content": f"hi {number}"}], "stream": True}
            return served.request(path, body)

        connections = [await served.connect() for _ in range(STREAMS)]
        await asyncio.gather(*(_begin(one, asks(number), phase) for number, one in enumerate(connections)))
        await up.until(lambda: len(up.exchanges) == STREAMS)
        for connection in connections:
            connection.reset() if how == "RST" else connection.writer.close()
            await asyncio.sleep(0.001)
        # It takes milliseconds; `python -m benchmarks.leaving` measures it.
        await up.until(lambda: all(exchange.left for exchange in up.exchanges))
        await up.until(lambda: not served.state.runs.open)


async def test_leaving_during_retrieval_cancels_the_node_and_runs_its_finally(tmp_path: Path) -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    @node(writes="passages")
    async def slow_retrieval(state: State, turn: Turn) -> Update:
        """Wait until it is cancelled."""
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            left.set()
        return {"passages": []}

    spec = Graph(name="slow", steps=(Step("slow_retrieval"), Step("call_model")))
    async with upstream() as up, serving(tmp_path, (spec, [slow_retrieval]), models={"main": up.url}) as served:
        connection = await served.connect()
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        await connection.send(served.request("/slow/chat/completions", body))
        await entered.wait()
        connection.writer.close()
        await asyncio.wait_for(left.wait(), 5)
        await up.until(lambda: not served.state.runs.open)
        assert not up.exchanges


async def test_leaving_stops_a_turn_that_does_not_stream(tmp_path: Path) -> None:
    async with (
        upstream(default=[("chunk", "a"), ("hang",)]) as up,
        serving(tmp_path, models={"main": up.url}) as served,
    ):
        connection = await served.connect()
        await connection.send(served.request("/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}))
        await up.until(lambda: len(up.exchanges) == 1)
        connection.writer.close()
        await up.until(lambda: up.exchanges[0].left is not None)


async def test_a_half_close_after_the_request_ends_the_turn(tmp_path: Path) -> None:
    async with (
        upstream(default=[("chunk", "a"), ("hang",)]) as up,
        serving(tmp_path, models={"main": up.url}) as served,
    ):
        connection = await served.connect()
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        await connection.send(served.request("/chat/completions", body))
        await up.until(lambda: len(up.exchanges) == 1)
        connection.writer.write_eof()
        await up.until(lambda: up.exchanges[0].left is not None)


def _turn(services: OpenServices) -> Turn:
    return Turn(services, TurnRequest([{"role": "user", "content": "hi"}]))


async def _services(up: Upstream, tmp_path: Path) -> OpenServices:
    return OpenServices(GraphSettings(data_dir=tmp_path, models={"main": up.url}))


@pytest.mark.parametrize("pause", [0.0, 0.001])
async def test_cancelling_a_run_twice_leaves_nothing_running(tmp_path: Path, pause: float, nothing_left: None) -> None:
    graph = compile_graph(Graph(name="chat", steps=(Step("call_model"),)))
    async with upstream(default=[("chunk", "a"), ("hang",)]) as up:
        services = await _services(up, tmp_path)

        async def listen() -> None:
            async for _ in run_turn(graph, _turn(services)):
                pass

        for _ in range(50):
            task = asyncio.create_task(listen())
            asked = len(up.exchanges)
            await up.until(lambda asked=asked: len(up.exchanges) > asked)  # type: ignore[misc]
            task.cancel()
            await asyncio.sleep(pause)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await up.until(lambda: all(exchange.left for exchange in up.exchanges))
        await up.until(lambda: up.open == 0)
        await services.aclose()


async def test_closing_the_generator_at_any_point_stops_every_node(tmp_path: Path, nothing_left: None) -> None:
    graph = compile_graph(Graph(name="chat", steps=(Step("call_model"),)))
    async with upstream(default=[*[("chunk", "a")] * 6, ("hang",)]) as up:
        services = await _services(up, tmp_path)
        for heard in range(6):
            events = run_turn(graph, _turn(services))
            for _ in range(heard):
                await anext(events)
            await events.aclose()
        async with running(graph, _turn(services)):
            pass
        await up.until(lambda: all(exchange.left for exchange in up.exchanges))
        await services.aclose()


async def test_a_failing_sibling_closes_the_upstream_of_a_parallel_step(tmp_path: Path, nothing_left: None) -> None:
    @node()
    async def breaks(state: State, turn: Turn) -> Update:
        """Fail while the parallel step streams."""
        await asyncio.sleep(0.05)
        raise RuntimeError("broken")

    @node()
    async def fork(state: State, turn: Turn) -> Update:
        """Lead to two parallel steps."""
        return None

    spec = Graph(
        name="both", steps=(Step("fork", then=("call_model", "breaks")), Step("call_model", then="END"), Step("breaks"))
    )
    graph = compile_graph(spec, [breaks, fork])
    async with upstream(default=[("chunk", "a"), ("hang",)]) as up:
        services = await _services(up, tmp_path)
        with pytest.raises(RuntimeError):
            async for _ in run_turn(graph, _turn(services)):
                pass
        await up.until(lambda: all(exchange.left for exchange in up.exchanges))
        await services.aclose()


async def test_keep_alive_pipelining_continue_and_http_1_0_work(tmp_path: Path) -> None:
    choose: dict[str, Sequence[Action]] = {"one": says("1"), "two": says("2")}
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        up.choose = lambda body: choose[body["messages"][0]["content"]]

        def asks(question: str, **headers: str) -> bytes:
            body: dict[str, Any] = {"messages": [{"role": "user", "content": question}], "stream": True}
            return served.request("/chat/completions", body, headers)

        kept = await served.connect()
        for question, answer in (("one", "1"), ("two", "2")) * 2:
            await kept.send(
                asks(question, padding="x" * 30_000)
            )  # the limit of headers holds for one request, not for a connection
            assert read_stream((await kept.reply()).body).text == answer

        piped = await served.connect()
        await piped.send(asks("one") + asks("two"))
        assert [read_stream((await piped.reply()).body).text for _ in range(2)] == ["1", "2"]

        patient = await served.connect()
        head, _, body = asks("two", expect="100-continue").partition(b"\r\n\r\n")
        await patient.send(head + b"\r\n\r\n")
        assert (await patient.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await patient.send(body)
        assert read_stream((await patient.reply()).body).text == "2"

        old = await served.connect()
        await old.send(asks("one").replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        status, headers = await old.head()
        assert status == 200 and headers["connection"] == "close"
        assert b"[DONE]" in await old.reader.read()


async def test_a_client_that_leaves_does_not_stop_another_clients_turn(tmp_path: Path) -> None:
    script: list[Action] = [("chunk", "slow "), ("sleep", 0.3), *says("but sure")]
    async with upstream(default=script) as up, serving(tmp_path, models={"main": up.url}) as served:
        leaver = await served.connect()
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        await leaver.send(served.request("/chat/completions", body))
        stays = asyncio.create_task(served.ask())
        await up.until(lambda: len(up.exchanges) == 2)
        leaver.reset()
        assert read_stream((await stays).body).text == "slow but sure"
    assert delta({}) not in (await stays).body
