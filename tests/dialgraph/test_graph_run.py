"""Steps at run time: routes, deadlines, retries, branches, late sound, and the same events in Studio."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import graphs.audio
import graphs.chat
import graphs.hangup
import graphs.rag
from dialgraph.graph.compile import CompiledGraph, compile_graph
from dialgraph.graph.errors import GraphError, StepTimeoutError
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.run.run import run_turn, running
from dialgraph.services.services import OpenServices, default_services
from dialgraph.services.settings import GraphSettings
from dialgraph.speech.port import Capabilities
from dialgraph.turn.events import Event, Failed, Filler, Say, Timing, as_data
from dialgraph.turn.node import Context, Node, State, Turn, TurnRequest, Update, node

OPENED: list[OpenServices] = []


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """Close what the turns of a test opened."""
    yield
    while OPENED:
        await OPENED.pop().aclose()


def turn(tmp_path: Path, question: str = "hi", **fields: Any) -> Turn:
    """Return a turn with the embedded services."""
    services = OpenServices(GraphSettings(data_dir=tmp_path))
    OPENED.append(services)
    return Turn(services, TurnRequest([{"role": "user", "content": question}], **fields))


async def events_of(graph: CompiledGraph, one: Turn) -> list[Event]:
    """Run the turn and return all of its events."""
    return [event async for event in run_turn(graph, one)]


def words_of(events: list[Event]) -> str:
    """Return the words that the caller hears."""
    return "".join(event.text for event in events if isinstance(event, Say | Filler))


def compiled(*steps: Step, nodes: list[Node]) -> CompiledGraph:
    """Compile a graph of these steps."""
    return compile_graph(Graph(name="g", steps=steps), nodes)


def speaker(name: str, words: str) -> Node:
    """Return a node that says these words."""

    async def function(state: State, turn: Turn) -> Update:
        """Say the words."""
        await turn.say(words)
        return None

    function.__name__ = name
    return node(speaks=True)(function)


@node()
async def slow(state: State, turn: Turn) -> Update:
    """Take too long."""
    await asyncio.sleep(5)
    return None


@node(speaks=True)
async def slow_speaker(state: State, turn: Turn) -> Update:
    """Speak, then take too long."""
    await turn.say("Your balance is ")
    await asyncio.sleep(5)
    return None


@node(speaks=True)
async def failing_speaker(state: State, turn: Turn) -> Update:
    """Speak, then fail."""
    await turn.say("Your balance is ")
    raise ValueError("no")


@node()
async def failing(state: State, turn: Turn) -> Update:
    """Fail."""
    raise ValueError("no")


SORRY = speaker("sorry", "Sorry.")
DONE = speaker("done_well", "Done.")


async def test_a_missed_deadline_leads_to_the_on_timeout_step(tmp_path: Path) -> None:
    graph = compiled(
        Step("slow", timeout_ms=20, on_timeout="sorry", then="done_well"), Step("done_well", then=END), Step("sorry"),
        nodes=[slow, SORRY, DONE],
    )  # fmt: skip
    events = await events_of(graph, turn(tmp_path))
    assert words_of(events) == "Sorry."
    assert [(one.step, one.outcome) for one in events if isinstance(one, Timing)] == [
        ("slow", "timeout"),
        ("sorry", "ok"),
    ]


async def test_a_missed_deadline_without_on_timeout_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(StepTimeoutError, match="The step 'slow' exceeded its time limit."):
        await events_of(compiled(Step("slow", timeout_ms=20), nodes=[slow]), turn(tmp_path))


async def test_an_error_leads_to_the_on_error_step(tmp_path: Path) -> None:
    graph = compiled(Step("failing", on_error="sorry", then=END), Step("sorry"), nodes=[failing, SORRY])
    assert words_of(await events_of(graph, turn(tmp_path))) == "Sorry."


@pytest.mark.parametrize("step", ["slow_speaker", "failing_speaker"])
async def test_a_step_that_spoke_leads_to_no_error_step(tmp_path: Path, step: str) -> None:
    again = speaker("again", "Your balance is 12.")
    graph = compiled(
        Step(step, timeout_ms=30, on_timeout="again", on_error="again", then=END), Step("again"),
        nodes=[slow_speaker, failing_speaker, again],
    )  # fmt: skip
    heard: list[Event] = []
    with pytest.raises((StepTimeoutError, ValueError)):
        async for event in run_turn(graph, turn(tmp_path)):
            heard.append(event)
    assert words_of(heard) == "Your balance is "


async def test_a_step_that_does_not_speak_is_retried(tmp_path: Path) -> None:
    tries = 0

    @node(writes="note")
    async def flaky(state: State, turn: Turn) -> Update:
        """Fail twice, then write a note."""
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ValueError("not yet")
        return {"note": tries}

    await events_of(compiled(Step("flaky", retry=2), nodes=[flaky]), turn(tmp_path))
    assert tries == 3
    tries = 0
    with pytest.raises(ValueError, match="not yet"):
        await events_of(compiled(Step("flaky", retry=1), nodes=[flaky]), turn(tmp_path))


@pytest.mark.parametrize(("route", "words"), [("left", "Left."), ("right", "Right.")])
async def test_a_table_follows_the_route_of_the_node(tmp_path: Path, route: str, words: str) -> None:
    @node(writes="route")
    async def decide(state: State, turn: Turn) -> Update:
        """Choose the route."""
        return {"route": route}

    graph = compiled(
        Step("decide", then={"left": "l", "right": "r"}), Step("l", then=END), Step("r"),
        nodes=[decide, speaker("l", "Left."), speaker("r", "Right.")],
    )  # fmt: skip
    assert words_of(await events_of(graph, turn(tmp_path))) == words


async def test_an_unknown_route_is_an_error_that_names_it(tmp_path: Path) -> None:
    @node(writes="route")
    async def decide(state: State, turn: Turn) -> Update:
        """Choose a route that the table lacks."""
        return {"route": "up"}

    graph = compiled(Step("decide", then={"left": END, "right": END}), nodes=[decide])
    with pytest.raises(GraphError, match="step 'decide': unknown route 'up'. Accepted: 'left', 'right'."):
        await events_of(graph, turn(tmp_path))


async def test_an_undeclared_key_is_an_error_that_names_it(tmp_path: Path) -> None:
    @node(writes="note")
    async def sloppy(state: State, turn: Turn) -> Update:
        """Write a key that is not declared, and that only shows when the node runs."""
        return {"".join(("me", "mo")): 1}

    with pytest.raises(
        GraphError, match="node 'sloppy': it wrote 'memo', which it does not declare. Accepted: 'note'."
    ):
        await events_of(compiled(Step("sloppy"), nodes=[sloppy]), turn(tmp_path))


@pytest.mark.parametrize("lengths", [(1, 1), (1, 3), (3, 1)])
async def test_a_step_waits_for_all_branches_and_runs_once(tmp_path: Path, lengths: tuple[int, int]) -> None:
    @node()
    async def quiet(state: State, turn: Turn) -> Update:
        """Do nothing."""
        return None

    steps = [Step("quiet", name="fork", then=("a1", "b1"))]
    for branch, length in zip("ab", lengths, strict=True):
        for at in range(1, length + 1):
            steps.append(Step("quiet", name=f"{branch}{at}", then=f"{branch}{at + 1}" if at < length else "meet"))
    steps.append(Step("done_well", name="meet", waits=True))
    graph = compiled(*steps, nodes=[quiet, DONE])
    assert words_of(await events_of(graph, turn(tmp_path))) == "Done."


async def test_a_branch_that_ends_early_does_not_end_the_turn(tmp_path: Path) -> None:
    @node()
    async def quiet(state: State, turn: Turn) -> Update:
        """Do nothing."""
        return None

    graph = compiled(
        Step("quiet", name="fork", then=("short", "long")),
        Step("quiet", name="short", then=(END, "meet")),
        Step("quiet", name="long", then="longer"),
        Step("quiet", name="longer", then="meet"),
        Step("done_well", name="meet", waits=True),
        nodes=[quiet, DONE],
    )
    events = await events_of(graph, turn(tmp_path))
    assert words_of(events) == "Done."


async def test_an_acknowledgement_is_said_only_if_the_answer_is_late(tmp_path: Path) -> None:
    def graph(after_ms: int, pause: float) -> CompiledGraph:
        @node()
        async def look_up(state: State, turn: Turn) -> Update:
            """Take a while."""
            await asyncio.sleep(pause)
            return None

        acknowledge = Step("acknowledge", options={"say": ["One moment."], "after_ms": after_ms})
        return compiled(acknowledge, Step("look_up"), Step("done_well"), nodes=[look_up, DONE])

    assert words_of(await events_of(graph(10, 0.1), turn(tmp_path))) == "One moment. Done."
    assert words_of(await events_of(graph(200, 0.01), turn(tmp_path))) == "Done."
    # The turn ends without a word before the acknowledgement is due: its timer ends with the turn.
    silent = compiled(Step("acknowledge", options={"after_ms": 50}), nodes=[])
    assert words_of(await events_of(silent, turn(tmp_path))) == ""


async def test_late_sound_arrives_before_the_turn_ends(tmp_path: Path) -> None:
    said = speaker("three", "One. Two. Three.")
    graph = compiled(Step("emit_audio", options={"real_time": False}), Step("three"), nodes=[said])
    events = await events_of(graph, turn(tmp_path))
    transcripts = [as_data(event)["text"] for event in events if type(event).__name__ == "Transcript"]
    assert transcripts == ["One. ", "Two. ", "Three."]
    kinds = [type(event).__name__ for event in events if type(event).__name__ in ("Transcript", "Audio")]
    assert kinds[0] == "Transcript" and kinds[-1] == "Audio"


@pytest.mark.parametrize(
    ("graph", "question"),
    [
        (graphs.chat.graph, "hello"),
        (graphs.rag.graph, "When is breakfast?"),
        (graphs.hangup.graph, "bye"),
        (graphs.hangup.graph, "早餐几点？"),
        (graphs.audio.graph, "Is there a gym?"),
    ],
)
async def test_studio_gets_the_same_events_as_a_server(
    tmp_path: Path, graph: CompiledGraph, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIALGRAPH_DATA_DIR", str(tmp_path))
    served = [
        as_data(event)
        for event in await events_of(
            graph, Turn(default_services(), TurnRequest([{"role": "user", "content": question}]))
        )
    ]
    final: dict[str, Any] = {}
    shown: list[Any] = []
    given = {"messages": [{"role": "user", "content": question}]}
    async for mode, chunk in graph.astream(given, context=Context(host="openai"), stream_mode=["custom", "values"]):
        if mode == "custom":
            shown.append(chunk)
        else:
            final = chunk
    assert [_lasting(event) for event in shown] == [_lasting(event) for event in served]
    said = "".join(event["text"] for event in shown if event["type"] in ("Say",))
    assert final["messages"][-1].type == "ai"
    assert final["messages"][-1].content == said or graph is graphs.audio.graph
    await default_services().aclose()


def _lasting(event: Any) -> dict[str, Any]:
    """Return the event without its id and times, which differ from run to run."""
    return {key: value for key, value in event.items() if key not in ("id", "started_ms", "ended_ms")}


async def test_a_graph_is_drawn_with_its_exact_edges() -> None:
    drawn = graphs.hangup.graph.get_graph()
    edges = {(edge.source, edge.target, edge.conditional) for edge in drawn.edges}
    assert edges == {
        ("__start__", "retrieve", False),
        ("retrieve", "rewrite_messages", True),
        ("rewrite_messages", "call_model", False),
        ("call_model", "__end__", True),
        ("call_model", "hangup", True),
        ("hangup", "__end__", False),
    }
    metadata = drawn.nodes["hangup"].metadata or {}
    assert metadata["summary"].startswith("Say goodbye")
    assert "zh" in metadata["options"]["say"]


async def test_studio_uses_the_earlier_messages_of_its_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALGRAPH_DATA_DIR", str(tmp_path))
    history = [
        {"role": "user", "content": "When is breakfast?"},
        {"role": "assistant", "content": "From 7."},
        {"role": "user", "content": "How much is the sauna?"},
    ]
    result = await graphs.rag.graph.ainvoke({"messages": history}, context=Context(call_id="c1"))
    assert "8 euros" in result["messages"][-1].content
    assert set(result) == {"messages", "question", "passages", "prompt", "steps"}


async def test_a_node_that_spoke_without_declaring_it_is_not_retried(tmp_path: Path) -> None:
    @node()
    async def secret_talker(state: State, turn: Turn) -> Update:
        """Speak without declaring it, then fail."""
        await turn.say("Your balance is ")
        raise ValueError("no")

    heard: list[Event] = []
    with pytest.raises(ValueError, match="no"):
        async for event in run_turn(compiled(Step("secret_talker", retry=3), nodes=[secret_talker]), turn(tmp_path)):
            heard.append(event)
    assert words_of(heard) == "Your balance is "


async def test_a_timeout_inside_a_node_is_handled_as_an_error(tmp_path: Path) -> None:
    tries = 0

    @node()
    async def times_out(state: State, turn: Turn) -> Update:
        """Raise a timeout of its own."""
        nonlocal tries
        tries += 1
        raise TimeoutError

    graph = compiled(Step("times_out", retry=2, on_error="sorry", then=END), Step("sorry"), nodes=[times_out, SORRY])
    assert words_of(await events_of(graph, turn(tmp_path))) == "Sorry."
    assert tries == 3


async def test_an_acknowledgement_does_not_replace_the_goodbye(tmp_path: Path) -> None:
    @node()
    async def look_up(state: State, turn: Turn) -> Update:
        """Take a while."""
        await asyncio.sleep(0.05)
        return None

    acknowledge = Step("acknowledge", options={"say": ["One moment."], "after_ms": 5})
    graph = compiled(acknowledge, Step("look_up"), Step("hangup", options={"say": "Bye."}), nodes=[look_up])
    assert words_of(await events_of(graph, turn(tmp_path))) == "One moment. Bye."


async def test_a_run_that_is_stopped_still_finishes_closing(tmp_path: Path) -> None:
    closing, closed = asyncio.Event(), asyncio.Event()

    @node()
    async def opens(state: State, turn: Turn) -> Update:
        """Open something that takes a while to close."""

        async def close() -> None:
            closing.set()
            await asyncio.sleep(0.1)
            closed.set()

        turn.stack.push_async_callback(close)
        return None

    async with running(compiled(Step("opens"), nodes=[opens]), turn(tmp_path)) as run:
        await closing.wait()
        run.stop()
    assert closed.is_set()


async def test_a_turn_stopped_before_its_start_ends_as_failed(tmp_path: Path) -> None:
    async with running(compiled(Step("done_well"), nodes=[DONE]), turn(tmp_path)) as run:
        run.stop()
        events = [event async for batch in run.subscribe() for event in batch]
        assert [type(event) for event in events] == [Failed]


async def test_a_turn_does_not_see_the_state_of_an_earlier_turn(tmp_path: Path) -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    seen: list[object] = []

    @node(writes="note")
    async def first_time(state: State, turn: Turn) -> Update:
        """Write only if the question asks for it."""
        return {"note": "old"} if turn.question == "write" else None

    @node(reads="note")
    async def look(state: State, turn: Turn) -> Update:
        """Record the note that is in the state."""
        seen.append(dict(state).get("note"))
        return None

    graph = compiled(Step("first_time"), Step("look"), nodes=[first_time, look]).copy({"checkpointer": InMemorySaver()})
    config: Any = {"configurable": {"thread_id": "t"}}
    for question in ("write", "read"):
        await graph.ainvoke({"messages": [{"role": "user", "content": question}]}, config)
    assert seen == ["old", None]


@pytest.mark.parametrize("sentences", [1, 100])
async def test_a_voice_that_fails_ends_the_turn_with_its_error(tmp_path: Path, sentences: int) -> None:
    class Broken:
        capabilities = Capabilities()
        sample_rate = 16_000

        async def speak(self, text: str, voice: str = "") -> Any:
            await asyncio.sleep(0.01)
            raise ValueError("no voice")
            yield b""

        async def prewarm(self) -> None:
            pass

        async def aclose(self) -> None:
            pass

    one = turn(tmp_path)
    one.services._voices["main"] = Broken()  # type: ignore[attr-defined]  # a fake engine
    talks = speaker("talks", "Hello there. " * sentences)
    with pytest.raises(ValueError, match="no voice"):
        await asyncio.wait_for(events_of(compiled(Step("emit_audio"), Step("talks"), nodes=[talks]), one), 5)
