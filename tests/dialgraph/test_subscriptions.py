"""Every listener to a run gets all of its events and its end, even if it joins late."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.policy import Policy
from dialgraph.graph.spec import Graph, Step
from dialgraph.run.channel import Channel
from dialgraph.turn.events import Event, Say
from dialgraph.turn.node import State, Turn, Update, node
from tests.support.serving import Served, serving
from tests.support.upstream import says, upstream
from tests.support.wire import read_stream

SECONDS = 7.0
"""The limit for what takes almost no time."""


@pytest.mark.parametrize("ends", ["before", "while it waits"])
async def test_a_listener_gets_the_end_that_comes_with_the_last_words(ends: str) -> None:
    channel, heard = Channel(), list[Event]()
    subscription = channel.subscribe(lambda: None)

    def take(events: list[Event]) -> bool:
        heard.extend(events)
        return True

    def end() -> None:
        channel.add(Say("Bye."))
        channel.close()

    if ends == "before":
        end()
    else:
        asyncio.get_running_loop().call_soon(end)
    assert await asyncio.wait_for(subscription.pass_to(take), SECONDS) == []
    assert heard == [Say("Bye.")]


@pytest.mark.parametrize("streams", [True, False])
async def test_a_client_that_joins_an_ended_turn_gets_all_of_it(tmp_path: Path, streams: bool) -> None:
    async with upstream(says("It opens at eight.")) as up, serving(tmp_path, models={"main": up.url}) as served:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "When?"}], "stream": streams}
        replies = []
        for _ in range(2):
            asking = served.post("/chat/completions", body, {"x-call-id": "c"})
            replies.append(await asyncio.wait_for(asking, SECONDS))
    assert len(up.exchanges) == 1
    texts = [
        read_stream(one.body).text if streams else one.json()["choices"][0]["message"]["content"] for one in replies
    ]
    assert texts == ["It opens at eight."] * 2


WORDS, CHARACTERS = 30, 500_000


async def test_a_slow_client_gets_every_word_before_the_failure(tmp_path: Path) -> None:
    failed = asyncio.Event()

    @node(speaks=True)
    async def speaks_and_breaks(state: State, turn: Turn) -> Update:
        """Say more than a socket can hold, then fail."""
        for _ in range(WORDS):
            await turn.say("a" * CHARACTERS)
            await asyncio.sleep(0.01)  # from the second chunk on, the reply waits for its client
        failed.set()
        raise ValueError("no")

    spec = Graph(name="breaks", steps=(Step("speaks_and_breaks"),), policy=Policy(speakable=False))
    async with serving(tmp_path, (spec, [speaks_and_breaks])) as served:
        connection = await served.connect()
        body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
        await connection.send(served.request("/breaks/chat/completions", body))
        await asyncio.wait_for(failed.wait(), SECONDS)
        await until_over(served)
        reply = await connection.reply()
    answer = read_stream(reply.body)
    assert reply.status == 200 and len(answer.text) == WORDS * CHARACTERS
    assert answer.error is not None and answer.error["code"] == "internal_error"


async def until_over(served: Served) -> None:
    """Wait until no turn runs."""
    async with asyncio.timeout(SECONDS):
        for run in list(served.state.runs.open):
            await run.wait()
