"""Stepping in Studio equals running: the model is sent the same bytes, and the state ends the same."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command, interrupt

from dialgraph import END, CompiledGraph, Graph, GraphError, State, Step, Turn, Update, compile_graph, node
from dialgraph.project import ROOT
from dialgraph.services.services import default_services
from tests.support.stepped import CASES, THREAD, Case
from tests.support.upstream import Upstream, upstream


@asynccontextmanager
async def asked(case: Case, monkeypatch: pytest.MonkeyPatch, folder: Path, skip: int = 0) -> AsyncIterator[Upstream]:
    """Run the model's server with the answers of this case, without those to the first calls."""
    async with upstream(*case.answers[skip:], strict=False) as up:
        monkeypatch.setenv("DIALGRAPH_MODELS", json.dumps({"main": up.url}))
        monkeypatch.setenv("DIALGRAPH_DATA_DIR", str(folder / "data"))
        try:
            yield up
        finally:
            await default_services().aclose()


def given(case: Case) -> dict[str, Any]:
    """Return the input of the turn. Its message has an id, so that two runs end with the same state."""
    return {"messages": [{"role": "user", "content": case.question, "id": "u1"}]}


def stored(case: Case) -> CompiledGraph:
    """Return the graph with a memory for its runs."""
    return case.graph.copy({"checkpointer": InMemorySaver()})


async def run(graph: CompiledGraph, case: Case) -> None:
    """Run the turn without stopping."""
    await graph.ainvoke(given(case), THREAD)


async def step(graph: CompiledGraph, case: Case) -> list[str]:
    """Run the turn one step at a time. Return the names of the steps at which it stopped."""
    await graph.ainvoke(given(case), THREAD, interrupt_before="*")
    stops: list[str] = []
    while (following := (await graph.aget_state(THREAD)).next) and len(stops) < 30:
        stops.extend(following)
        await graph.ainvoke(None, THREAD, interrupt_before="*")
    return stops


async def ended(graph: CompiledGraph) -> dict[str, Any]:
    """Return the state at the end, without what differs from run to run."""
    values = dict((await graph.aget_state(THREAD)).values)
    turn = values.pop("turn", {"message_id": ""})
    values.pop("left_out", None)
    steps = sorted((one["step"], one["outcome"]) for one in values.pop("steps", ()))
    messages = [_lasting(one, turn["message_id"]) for one in values.pop("messages")]
    return {**values, "steps": steps, "messages": messages}


def _lasting(message: BaseMessage, identity: str) -> Any:
    calls = [(call["name"], call["args"]) for call in getattr(message, "tool_calls", ())]
    return message.type, message.content, calls, "this turn" if message.id == identity else message.id


@pytest.fixture(params=list(CASES))
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of each case in turn."""
    return str(request.param)


async def test_stepping_asks_the_model_the_same_as_running(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    straight, stepped = stored(case), stored(case)
    async with asked(case, monkeypatch, tmp_path) as up:
        await run(straight, case)
    async with asked(case, monkeypatch, tmp_path) as again:
        stops = await step(stepped, case)
    assert again.raw == up.raw and len(up.raw) == len(case.answers)
    assert await ended(stepped) == await ended(straight)
    assert set(stops) <= set(case.graph.nodes) and len(stops) >= len(set(stops)) > 0


async def test_runs_continue_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALGRAPH_DATA_DIR", str(tmp_path / "data"))
    async with AsyncExitStack() as stack:
        servers: dict[str, tuple[Upstream, Upstream]] = {}
        for name, case in CASES.items():
            servers[name] = ups = (
                await stack.enter_async_context(upstream(*case.answers, strict=False)),
                await stack.enter_async_context(upstream(*case.answers, strict=False)),
            )
            async with AsyncSqliteSaver.from_conn_string(str(tmp_path / f"{name}.sqlite")) as saver:
                first = case.graph.copy({"checkpointer": saver})
                (tmp_path / f"{name}.json").write_text(json.dumps({"main": ups[1].url}))
                monkeypatch.setenv("DIALGRAPH_MODELS", json.dumps({"main": ups[1].url}))
                await first.ainvoke(given(case), THREAD, interrupt_before="*")
                await first.ainvoke(None, THREAD, interrupt_before="*")
            await default_services().aclose()
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.stepped", str(tmp_path), cwd=ROOT, env=os.environ
        )
        assert await other.wait() == 0
        for name, case in CASES.items():
            straight = stored(case)
            monkeypatch.setenv("DIALGRAPH_MODELS", json.dumps({"main": servers[name][0].url}))
            await run(straight, case)
            await default_services().aclose()
            assert servers[name][1].raw == servers[name][0].raw, name
            async with AsyncSqliteSaver.from_conn_string(str(tmp_path / f"{name}.sqlite")) as saver:
                assert await ended(case.graph.copy({"checkpointer": saver})) == await ended(straight), name


async def test_a_run_repeats_from_every_checkpoint(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    straight = stored(case)
    async with asked(case, monkeypatch, tmp_path) as up:
        await run(straight, case)
    expected = await ended(straight)
    history = [one async for one in straight.aget_state_history(THREAD) if one.next and one.next != ("__start__",)]
    assert len(history) >= 1
    for snapshot in history:
        done = sum(one["step"] in case.asking for one in snapshot.values.get("steps", ()))
        async with asked(case, monkeypatch, tmp_path, skip=done) as again:
            await straight.ainvoke(None, snapshot.config)
        assert again.raw == up.raw[done:], snapshot.next
        assert await ended(straight) == expected, snapshot.next


async def stopped_before(
    step: str, case: Case, monkeypatch: pytest.MonkeyPatch, folder: Path, **edit: object
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Stop before this step, change the state, continue. Return what the model was sent, and the state at the end."""
    graph = stored(case)
    async with asked(case, monkeypatch, folder) as up:
        await graph.ainvoke(given(case), THREAD, interrupt_before=[step])
        await graph.aupdate_state(THREAD, edit)
        await graph.ainvoke(None, THREAD)
    return up.bodies, await ended(graph)


async def test_edited_passages_reach_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edited = [{"text": "Dogs sleep in the <kennel>.", "document": "new.md"}]
    bodies, state = await stopped_before("rewrite_messages", CASES["rag"], monkeypatch, tmp_path, passages=edited)
    assert '<passage source="new.md">\nDogs sleep in the ‹kennel›.' in bodies[0]["messages"][0]["content"]
    assert "15 euros" not in str(bodies)
    assert state["passages"] == edited


async def test_an_edited_prompt_is_what_the_model_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edited = [{"role": "system", "content": "Answer in Latin."}, {"role": "user", "content": "Canis?"}]
    for name in ("rag", "chat"):
        bodies, state = await stopped_before("call_model", CASES[name], monkeypatch, tmp_path, prompt=edited)
        assert bodies[0]["messages"] == state["prompt"] == edited


async def test_an_edited_question_is_searched_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    question = "How much is the sauna?"
    bodies, state = await stopped_before("retrieve", CASES["rag"], monkeypatch, tmp_path, question=question)
    assert "8 euros" in bodies[0]["messages"][0]["content"] and "8 euros" in state["passages"][0]["text"]


async def test_an_edited_route_leads_to_another_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["hangup"]
    graph = stored(case)
    async with asked(case, monkeypatch, tmp_path):
        await graph.ainvoke(given(case), THREAD, interrupt_after=["call_model"])
        assert (await graph.aget_state(THREAD)).next == ("hangup",)
        await graph.aupdate_state(THREAD, {"route": "answered"})
        assert (await graph.aget_state(THREAD)).next == ()
        await graph.aupdate_state(THREAD, {"route": "hangup"}, as_node="call_model")
        await graph.ainvoke(None, THREAD)
        with pytest.raises(GraphError, match="state, 'route': 'hungup' leads nowhere from step 'call_model'. Accepted"):
            await graph.aupdate_state(THREAD, {"route": "hungup"}, as_node="call_model")
    calls = (await ended(graph))["messages"][-1][2]
    assert calls == [("hangup", {})]


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            {"passages": [{"txt": "Dogs"}]},
            "state, 'passages': accepted is a list of objects with a 'text'.",
        ),
        ({"prompt": "Be nice."}, "state, 'prompt': accepted is a list of OpenAI messages"),
        ({"question": 7}, "state, 'question': 7 is not accepted. Accepted: a text."),
    ],
)
async def test_an_edit_of_the_wrong_form_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(GraphError, match=sentence):
        await stopped_before("rewrite_messages", CASES["rag"], monkeypatch, tmp_path, **edit)
    await default_services().aclose()


async def test_a_new_turn_begins_without_what_the_last_one_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["rag"]
    graph = stored(case)
    async with asked(case, monkeypatch, tmp_path):
        await run(graph, case)
        before = (await graph.aget_state(THREAD)).values
        new = {"messages": [{"role": "user", "content": "hello"}]}
        await graph.ainvoke(new, THREAD, interrupt_before=["acknowledge"])
        state = (await graph.aget_state(THREAD)).values
        assert before["passages"] and before["prompt"] and before["steps"]
        assert set(state) == {"messages"} and len(state["messages"]) == 3
        await graph.ainvoke(None, THREAD)
        after = (await graph.aget_state(THREAD)).values
    assert after["passages"] == [] and after["steps"][0]["step"] == "acknowledge"
    assert after["turn"]["message_id"] != before["turn"]["message_id"]


async def test_slots_of_the_call_stay_from_turn_to_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["memory"]
    graph = stored(case)
    async with asked(case, monkeypatch, tmp_path) as up:
        await run(graph, case)
        state = (await graph.aget_state(THREAD)).values
        assert state["slots"] == {"name": "Ann"} and "day" in state["problems"]
        await graph.aupdate_state(THREAD, {"slots": {"name": "Bo"}})
        await graph.ainvoke({"messages": [{"role": "user", "content": "hm"}]}, THREAD)
    assert "- name: Bo" in up.bodies[-1]["messages"][0]["content"] and "cannot be used" not in str(up.bodies[-1])


async def test_a_client_gets_the_words_once_as_the_caller_hears_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, words in (("chat", "Hello there."), ("tools", "Let me see. From 7 to 22."), ("timeout", "I will look. ")):
        case = CASES[name]
        graph = stored(case)
        chunks: list[Any] = []
        async with asked(case, monkeypatch, tmp_path):
            async for message, _ in graph.astream(given(case), THREAD, stream_mode="messages"):
                chunks.append(message)
        final = (await graph.aget_state(THREAD)).values["messages"][-1]
        assert "".join(chunk.content for chunk in chunks) == final.content == words
        assert {chunk.id for chunk in chunks} == {final.id} and {type(one).__name__ for one in chunks} == {
            "AIMessageChunk"
        }
    assert [call["name"] for call in final.tool_calls] == ["hangup"]
    assert [call["name"] for chunk in chunks for call in chunk.tool_call_chunks] == ["hangup"]


async def test_a_trace_shows_the_call_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["chat"]
    async with asked(case, monkeypatch, tmp_path):
        events = [one async for one in case.graph.astream_events(given(case), version="v2")]
    began = next(one for one in events if one["event"] == "on_chat_model_start")
    over = next(one for one in events if one["event"] == "on_chat_model_end")
    assert began["data"]["input"]["messages"][0][0].content == "hello"
    assert began["metadata"]["langgraph_node"] == "call_model"
    assert over["data"]["output"].content == "<think>Hm.</think>Hello there."


async def test_a_timer_that_cannot_be_stepped_is_left_out_visibly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["understood"]
    graph = stored(case)
    async with asked(case, monkeypatch, tmp_path):
        await graph.ainvoke(given(case), THREAD, interrupt_before=["call_model"])
        shown = [one async for one in graph.astream(None, THREAD, stream_mode="custom")]
    sentence = "The step 'acknowledge' had prepared words for a silence. The run stopped, so they were left out."
    assert {"type": "LeftOut", "text": sentence} in shown
    assert (await graph.aget_state(THREAD)).values["left_out"] == [sentence]


def test_a_script_without_an_event_loop_can_run_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALGRAPH_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("DIALGRAPH_MODELS", raising=False)
    graph = CASES["rag"].graph
    assert "15 euros" in graph.invoke(given(CASES["rag"]))["messages"][-1].content
    updates = list(graph.stream(given(CASES["rag"]), stream_mode="updates"))
    assert [next(iter(one)) for one in updates] == [step.id for step in graph.spec.steps]
    for update in graph.stream(given(CASES["rag"]), stream_mode="updates"):
        assert "acknowledge" in update
        break


def test_the_input_of_studio_is_the_conversation() -> None:
    graph = CASES["rag"].graph
    schema = graph.get_input_jsonschema()
    assert list(schema["properties"]) == ["messages"] and "HumanMessage" in schema["$defs"]
    shown = set(graph.get_output_jsonschema()["properties"])
    assert {"messages", "question", "passages", "prompt", "route", "steps"} <= shown
    assert not shown & {"turn", "built", "waiting", "conversation"}
    passages = graph.get_output_jsonschema()["properties"]["passages"]
    assert passages["items"] == {"$ref": "#/$defs/FoundPassage"}


@pytest.mark.parametrize(("name", "words"), [("thoughts", "Hi.  Done."), ("guarded", "I may not say.")])
async def test_what_the_filters_hold_back_survives_a_stop(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    graph = stored(case)
    async with asked(case, monkeypatch, tmp_path):
        await step(graph, case)
    assert (await graph.aget_state(THREAD)).values["messages"][-1].content == words


async def test_a_filler_before_a_stop_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @node()
    async def wait(state: State, turn: Turn) -> Update:
        """Wait until the caller has heard the filler."""
        await turn.line.catch_up()  # the phrase has begun, because its timer is 0
        return None

    acknowledge = Step("acknowledge", options={"say": ["One moment."], "after_ms": 0})
    spec = Graph(name="g", steps=(acknowledge, Step(wait), Step("hangup", options={"say": "Bye."})))
    case = Case(compile_graph(spec), "bye", [])
    graph = stored(case)
    async with asked(case, monkeypatch, tmp_path):
        await graph.ainvoke(given(case), THREAD, interrupt_before=["hangup"])
        await graph.ainvoke(None, THREAD)
    assert (await ended(graph))["messages"][-1][1:3] == ("One moment. Bye.", [("hangup", {})])


async def test_an_author_can_be_asked_in_the_middle_of_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @node(speaks=True)
    async def ask(state: State, turn: Turn) -> Update:
        """Ask the author, and say the answer."""
        await turn.say(str(interrupt("Which room?")))
        return None

    @node(speaks=True)
    async def sorry(state: State, turn: Turn) -> Update:
        """Apologise."""
        await turn.say("Sorry.")
        return None

    spec = Graph(name="g", steps=(Step(ask, on_error="sorry", then=END), Step(sorry)))
    case = Case(compile_graph(spec), "hi", [])
    graph = stored(case)
    async with asked(case, monkeypatch, tmp_path):
        stopped = await graph.ainvoke(given(case), THREAD)
        assert [one.value for one in stopped["__interrupt__"]] == ["Which room?"]
        await graph.ainvoke(Command(resume="Room 7."), THREAD)
    state = await ended(graph)
    assert state["messages"][-1][1] == "Room 7." and state["steps"] == [("ask", "ok")]
