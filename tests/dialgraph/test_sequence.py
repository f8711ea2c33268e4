"""A graph whose steps run in sequence is served as one node, with the same events as its steps in Studio."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import graphs.audio
import graphs.chat
import graphs.hangup
import graphs.rag
from dialgraph.graph.compile import CompiledGraph, compile_graph
from dialgraph.graph.errors import GraphError
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.run.run import run_turn
from dialgraph.services.services import OpenServices
from dialgraph.services.settings import GraphSettings
from dialgraph.turn.events import Event
from dialgraph.turn.node import State, Turn, TurnRequest, Update, node
from tests.support.fixed import FixedEnvironment
from tests.support.serving import serving
from tests.support.upstream import says, upstream


@node(writes=("count", "route"), may_read="count", routes=("again", "enough"))
async def counts(state: State, turn: Turn) -> Update:
    """Choose 'again' three times, then 'enough'."""
    count = dict(state).get("count", 0)
    assert isinstance(count, int)
    return {"count": count + 1, "route": "again" if count < 3 else "enough"}


@node(speaks=True)
async def tells(state: State, turn: Turn) -> Update:
    """Say the step and the question."""
    await turn.say(f"{turn.place.step}: {state['question']}. ")
    return None


@node(writes="question")
async def asks_anew(state: State, turn: Turn) -> Update:
    """Change the question."""
    return {"question": f"{state['question']}!"}


@node()
async def is_late(state: State, turn: Turn) -> Update:
    """Take too long."""
    await asyncio.sleep(5)
    return None


@node()
async def breaks(state: State, turn: Turn) -> Update:
    """Fail."""
    raise ValueError("no")


@node(writes=("count", "route"), routes=("again", "enough"))
async def turns_round(state: State, turn: Turn) -> Update:
    """Choose 'again' every time, so that the loop never ends."""
    return {"route": "again"}


NODES = [counts, tells, asks_anew, is_late, breaks, turns_round]
SPECS = {
    "in a row": (Step("tells", name="one"), Step("asks_anew"), Step("tells", name="two")),
    "a loop": (
        Step("counts", then={"again": "asks_anew", "enough": "tells"}), Step("asks_anew", then="counts"), Step("tells"),
    ),
    "a deadline": (Step("is_late", timeout_ms=20, on_timeout="tells", then=END), Step("tells")),
    "an error": (
        Step("breaks", on_error="two", then="one"), Step("tells", name="one", then=END), Step("tells", name="two"),
    ),
    "an early end": (Step("counts", then={"again": END, "enough": "tells"}), Step("tells")),
}  # fmt: skip


async def events_of(graph: CompiledGraph, folder: Path, question: str) -> list[Event]:
    """Return the events of one turn in a fixed environment.

    The turn does not stream: its clock never moves, so no frame would ever be due.
    """
    services = OpenServices(GraphSettings(data_dir=folder))
    try:
        asked = TurnRequest([{"role": "user", "content": question}], endpoint=graph.spec.name, streaming=False)
        return [event async for event in run_turn(graph, Turn(services, asked, environment=FixedEnvironment()))]
    finally:
        await services.aclose()


async def both_ways(graph: CompiledGraph, folder: Path, question: str) -> tuple[list[Event], list[Event]]:
    """Return the events from one node, and those from the separate steps."""
    assert graph.in_sequence is not None
    fused = await events_of(graph, folder / "one", question)
    whole, graph.in_sequence = graph.in_sequence, None
    try:
        return fused, await events_of(graph, folder / "steps", question)
    finally:
        graph.in_sequence = whole


@pytest.mark.parametrize("steps", SPECS.values(), ids=SPECS)
async def test_one_node_emits_the_same_events_as_its_steps(tmp_path: Path, steps: tuple[Step, ...]) -> None:
    graph = compile_graph(Graph(name="g", steps=steps), NODES)
    fused, stepped = await both_ways(graph, tmp_path, "why")
    assert fused == stepped and fused


@pytest.mark.parametrize("graph", [graphs.chat.graph, graphs.rag.graph, graphs.hangup.graph, graphs.audio.graph])
@pytest.mark.parametrize("question", ["Can I bring my dog?", "goodbye"])
async def test_every_shipped_graph_emits_the_same_events_as_one_node(
    tmp_path: Path, graph: CompiledGraph, question: str
) -> None:
    fused, stepped = await both_ways(graph, tmp_path, question)
    assert fused == stepped and fused


async def test_an_endless_loop_ends_with_an_error(tmp_path: Path) -> None:
    graph = compile_graph(
        Graph(name="g", steps=(Step("turns_round", then={"again": "turns_round", "enough": END}),)), NODES
    )
    with pytest.raises(GraphError, match="took more than 200 steps"):
        await events_of(graph, tmp_path, "why")


@pytest.mark.parametrize(
    "steps",
    [
        (Step("asks_anew", then=("one", "two")), Step("tells", name="one", then=END), Step("breaks", name="two")),
        (Step("asks_anew", then=("one", END)), Step("tells", name="one")),
    ],
)
def test_steps_that_may_run_in_parallel_stay_separate_nodes(steps: tuple[Step, ...]) -> None:
    assert compile_graph(Graph(name="g", steps=steps), NODES).in_sequence is None


async def test_the_same_environment_gives_the_same_bytes(tmp_path: Path) -> None:
    replies: list[Any] = []
    for at in range(2):
        async with upstream(says("It opens at eight.")) as up:
            world = FixedEnvironment()
            async with serving(tmp_path / str(at), models={"main": up.url}, environment=world) as served:
                replies.append((await served.ask("When does the pool open?")).body)
    assert replies[0] == replies[1]
