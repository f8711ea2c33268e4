"""However a request ends, its memory is freed immediately, without a garbage collection."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.spec import Graph, Step
from tests.support.serving import CHAT, Served, serving
from tests.support.upstream import Action, Upstream, says, upstream

LARGE = 3_000_000
SLOW = Graph(name="slow", steps=(Step("call_model", timeout_ms=200),))


def body(**more: Any) -> dict[str, Any]:
    """Return a request body that is large enough to be found in memory."""
    return {"messages": [{"role": "user", "content": "a" * LARGE}], "stream": True, **more}


def large_things() -> list[object]:
    """Return all objects that refer to a text of at least that size."""
    return [
        holder
        for holder in gc.get_objects()
        if any(isinstance(held, str | bytes | bytearray) and len(held) >= LARGE for held in gc.get_referents(holder))
    ]


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Turn off the garbage collector. Then only objects without references are freed during the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@asynccontextmanager
async def scene(folder: Path, script: list[Action]) -> AsyncIterator[tuple[Served, Upstream]]:
    """Run a server and its upstream. At the end, check that no request is left in memory."""
    async with upstream(default=script) as up:
        model = {"url": up.url, "idle_seconds": 0.3, "first_byte_seconds": 0.6, "away_seconds": 0}
        async with serving(folder, (SLOW, []), models={"main": model}) as served:
            yield served, up
            up.exchanges.clear()
            served.connections.clear()
            for _ in range(200):
                if not (found := large_things()):
                    break
                del found
                await asyncio.sleep(0.02)
            assert not (found := large_things()), found


REFUSED: list[Action] = [("status", 400, {}, b'{"error": {"message": "no"}}')]
ANSWERS: dict[str, tuple[str, list[Action], dict[str, Any]]] = {
    "answered": (CHAT, says("Hi."), {}),
    "answered whole": (CHAT, says("Hi."), {"stream": False}),
    "refused by the model": (CHAT, REFUSED, {}),
    "refused by the model, in a call": (CHAT, REFUSED, {"metadata": {"call_id": "c"}}),
    "spoken as a fallback": ("/chat/completions", REFUSED, {"extendData": {"instanceId": "i"}}),
    "refused by us": (CHAT, says("Hi."), {"n": 2}),
    "stalled": (CHAT, [("chunk", "Hi "), ("hang",)], {}),
    "cut": (CHAT, [("chunk", "Hi "), ("fin",)], {}),
    "never begun": (CHAT, [("hang",)], {}),
    "a step that took too long": ("/slow/chat/completions", [("hang",)], {}),
    "rag": ("/rag/chat/completions", REFUSED, {}),
    "hangup": ("/hangup/chat/completions", REFUSED, {}),
    "sound": ("/audio/chat/completions", REFUSED, {}),
    "responses": ("/v1/responses", REFUSED, {}),
}


@pytest.mark.parametrize("ending", ANSWERS)
async def test_a_request_is_freed_after_its_reply(ending: str, tmp_path: Path) -> None:
    path, script, more = ANSWERS[ending]
    async with scene(tmp_path, script) as (served, _):
        reply = await served.post(path, body(**more))
        assert reply.status in (200, 400, 502, 504)
        del reply


@pytest.mark.parametrize("path", [CHAT, "/rag/chat/completions", "/hangup/chat/completions"])
@pytest.mark.parametrize("script", [[("hang",)], [("chunk", "Hi "), ("hang",)]], ids=["in silence", "in words"])
async def test_a_request_is_freed_when_its_client_leaves(path: str, script: list[Action], tmp_path: Path) -> None:
    async with scene(tmp_path, script) as (served, up):
        connection = await served.connect()
        await connection.send(served.request(path, body()))
        await up.until(lambda: bool(up.exchanges))
        connection.reset()
        await up.until(lambda: up.exchanges[0].left is not None)


async def test_a_request_is_freed_when_a_newer_turn_ends_it(tmp_path: Path) -> None:
    async with scene(tmp_path, [("hang",)]) as (served, up):
        connection = await served.connect()
        call: dict[str, Any] = {"call_id": "c"}
        await connection.send(served.request(CHAT, body(metadata={**call, "turn_id": "1"})))
        await up.until(lambda: len(up.exchanges) == 1)
        up.scripts.append(says("Hi."))
        newer: dict[str, Any] = {"messages": [{"role": "user", "content": "b"}], "metadata": {**call, "turn_id": "2"}}
        await served.post(CHAT, newer)
        await connection.reply()
        await connection.aclose()
