"""What a caller hears around the answer (fillers, greetings, prompts), and how the history of a call is repaired."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.policy import Policy
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.models.history.pairing import NO_RESULT
from dialgraph.models.port import Message
from dialgraph.services.services import OpenServices
from dialgraph.services.settings import GraphSettings
from dialgraph.turn.call import CallInfo
from dialgraph.turn.events import Event, Filler
from dialgraph.turn.node import Turn, TurnRequest
from dialgraph.turn.upstream_messages import upstream_messages
from nodes.acknowledge import acknowledge
from server.protocols.chat_completions.request import read_request
from tests.support.serving import serving
from tests.support.upstream import Action, says, upstream
from tests.support.wire import read_stream

SLOW: list[Action] = [("sleep", 0.15), *says("The answer.")]
FILLED = Graph(
    name="filled", steps=(Step("acknowledge", options={"say": ["One moment."], "after_ms": 10}), Step("call_model"))
)


def user(text: str) -> Message:
    """Return a message of the caller."""
    return {"role": "user", "content": text}


def assistant(text: str, **fields: Any) -> Message:
    """Return a message of the assistant."""
    return {"role": "assistant", "content": text, **fields}


@pytest.mark.parametrize(
    ("profile", "heard"),
    [
        ("openai", "One moment. The answer."),
        ("vapi", "One moment. <flush /> The answer."),
        ("elevenlabs", "One moment... The answer."),
    ],
)
async def test_a_filler_ends_in_the_form_that_its_host_needs(tmp_path: Path, profile: str, heard: str) -> None:
    async with upstream(default=SLOW) as up, serving(tmp_path, (FILLED, []), models={"main": up.url}) as served:
        body = {"messages": [user("hi")], "stream": True}
        reply = await served.post("/filled/chat/completions", body, {"x-dialgraph-profile": profile})
    assert read_stream(reply.body).text == heard


async def test_no_filler_is_sent_if_the_host_fills_silences_itself(tmp_path: Path) -> None:
    spec = Graph(name="quiet", steps=FILLED.steps, policy=Policy(fills_silence=True))
    async with upstream(default=SLOW) as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        assert read_stream((await served.ask("hi", "/quiet/chat/completions")).body).text == "The answer."


async def fillers_of(turn: Turn, **options: Any) -> list[str]:
    """Run acknowledge and return the fillers that it says within a moment."""
    events: list[Event] = []

    async def hear(event: Event) -> None:
        events.append(event)

    turn.line.connect(hear)
    await acknowledge({}, turn, **{"after_ms": 0, **options})
    await asyncio.sleep(0.02)
    await turn.aclose()
    return [event.text for event in events if isinstance(event, Filler)]


def turn_of(services: OpenServices, *messages: Message, **fields: Any) -> Turn:
    """Return a turn of one call."""
    return Turn(services, TurnRequest(messages, call=CallInfo(id="c", principal="p"), endpoint="e", **fields))


async def test_a_filler_is_in_the_callers_language(tmp_path: Path) -> None:
    services = OpenServices(GraphSettings(data_dir=tmp_path))
    assert (await fillers_of(turn_of(services, user("停车多少钱？"))))[0] in ("请稍等。 ", "我查一下。 ", "让我看看。 ")
    assert (await fillers_of(turn_of(services, assistant("您好！"))))[0].strip().endswith("。")
    assert (await fillers_of(turn_of(services, user("How much?"))))[0].strip().endswith(".")


async def test_a_call_gets_no_second_filler_during_the_cooldown(tmp_path: Path) -> None:
    services = OpenServices(GraphSettings(data_dir=tmp_path))
    options = {"say": ("One.", "Two."), "cooldown_ms": 60_000}
    assert await fillers_of(turn_of(services, user("hi")), **options)
    assert await fillers_of(turn_of(services, user("hi")), **options) == []
    other = Turn(services, TurnRequest([user("hi")], call=CallInfo(id="other", principal="p")))
    assert await fillers_of(other, **options)


async def test_the_delay_of_a_filler_follows_the_usual_time_of_the_endpoint(tmp_path: Path) -> None:
    services = OpenServices(GraphSettings(data_dir=tmp_path))
    options = {"after_ms": "median", "min_ms": 0, "max_ms": 60_000}
    assert await fillers_of(turn_of(services, user("hi")), **options) == [], (
        "without earlier answers the longest delay applies"
    )
    for milliseconds in [5.0] * 30 + [90_000.0] * 20:
        services.fillers.answered("e", milliseconds)
    assert await fillers_of(turn_of(services, user("hi")), **options)
    for _ in range(26):
        services.fillers.answered("e", 90_000.0)
    assert await fillers_of(turn_of(services, user("hi")), **options) == [], "only the last fifty answers count"
    assert await fillers_of(turn_of(services, user("hi")), **{**options, "max_ms": 1})


PROMPTS = {"prompts": ["Still there?", "Hello?"], "most_prompts": 2, "greeting": "Welcome.", "voicemail": "Call back."}
GREETER = Graph(
    name="greeter",
    steps=(
        Step("greet", options=PROMPTS, then={"words": "call_model", "spoken": END, "over": "hangup"}),
        Step("call_model", then=END),
        Step("hangup", options={"say": "Goodbye."}),
    ),
)
SILENCE = {"metadata": {"source": "silence"}}


@pytest.mark.parametrize(
    ("messages", "extra", "heard", "hangs_up"),
    [
        ([user("hi")], {}, "From the model.", False),
        ([{"role": "system", "content": "Be kind."}], {}, "Welcome.", False),
        ([user("hi")], {"metadata": {"source": "greeting"}}, "Welcome.", False),
        ([user("hi"), assistant("Yes?")], SILENCE, "Still there?", False),
        ([user("hi"), assistant("Yes?"), assistant("Still there?")], SILENCE, "Hello?", False),
        ([user("hi"), assistant("Yes?"), assistant("Still there?"), assistant("Hello?")], SILENCE, "Goodbye.", True),
        ([user("hi"), assistant("Yes?"), assistant("Still there? Hello?")], SILENCE, "Hello?", False),
        ([user("hi"), assistant("Yes?"), assistant("Still there?"), user("yes")], {}, "From the model.", False),
        ([user("hi")], {"metadata": {"source": "voicemail"}}, "Call back.", True),
        ([user("hi"), assistant("Yes?", metadata={"source": "silence"})], {}, "Hello?", False),
    ],
)
async def test_a_turn_without_words_is_answered_without_a_model(
    tmp_path: Path, messages: list[Message], extra: dict[str, Any], heard: str, hangs_up: bool
) -> None:
    script = says("From the model.")
    async with upstream(default=script) as up, serving(tmp_path, (GREETER, []), models={"main": up.url}) as served:
        body = {"messages": messages, "stream": True, **extra}
        answer = read_stream((await served.post("/greeter/chat/completions", body)).body)
    assert answer.text == heard and bool(answer.tool_calls) == hangs_up
    assert len(up.exchanges) == (heard == "From the model.")


def call(identity: str, arguments: str = "{}") -> dict[str, Any]:
    """Return a tool call for a history."""
    return {"id": identity, "type": "function", "function": {"name": "f", "arguments": arguments}}


def result(identity: str, content: str = "1") -> Message:
    """Return the result of a tool for a history."""
    return {"role": "tool", "tool_call_id": identity, "content": content}


BEGINS = user("(The call begins.)")
HISTORIES: dict[str, tuple[list[Message], list[Message]]] = {
    "nothing to repair": ([user("a"), assistant("b"), user("c")], [user("a"), assistant("b"), user("c")]),
    "a call without its result": (
        [user("a"), assistant("", tool_calls=[call("1"), call("2")]), result("1"), user("b")],
        [user("a"), assistant("", tool_calls=[call("1"), call("2")]), result("1"), result("2", NO_RESULT), user("b")],
    ),
    "a result that came late": (
        [user("a"), assistant("", tool_calls=[call("1")]), user("b"), result("1")],
        [user("a"), assistant("", tool_calls=[call("1")]), result("1"), user("b")],
    ),
    "a result of a call that was cut from the history": ([result("9"), user("b")], [user("b")]),
    "a result twice": (
        [user("a"), assistant("", tool_calls=[call("1")]), result("1"), result("1", "2")],
        [user("a"), assistant("", tool_calls=[call("1")]), result("1", "2")],
    ),
    "two calls with one id": (
        [user("a"), assistant("", tool_calls=[call("0")]), result("0", "10"), user("b"),
         assistant("", tool_calls=[call("0")]), result("0", "20")],
        [user("a"), assistant("", tool_calls=[call("0")]), result("0", "10"), user("b"),
         assistant("", tool_calls=[call("0")]), result("0", "20")],
    ),
    "calls that are not calls": (
        [user("a"), assistant("b", tool_calls=["x"]), user("c")], [user("a"), assistant("b"), user("c")],
    ),
    "a legacy function call": (
        [user("a"), assistant("", function_call={"name": "f", "arguments": "{}"}),
         {"role": "function", "name": "f", "content": "1"}],
        [user("a"), assistant("", function_call={"name": "f", "arguments": "{}"}),
         {"role": "function", "name": "f", "content": "1"}],
    ),
    "arguments that were cut": (
        [user("a"), assistant("", tool_calls=[call("1", '{"a')]), result("1")],
        [user("a"), assistant("", tool_calls=[call("1")]), result("1")],
    ),
    "assistant messages in a row": (
        [user("a"), assistant("b"), assistant("c"), user("d")], [user("a"), assistant("b c"), user("d")],
    ),
    "an empty assistant message": ([user("a"), assistant(" "), user("b")], [user("a"), user("b")]),
    "a greeting before anybody spoke": ([assistant("Hello."), user("a")], [BEGINS, assistant("Hello."), user("a")]),
    "words before a call": (
        [user("a"), assistant("b"), assistant("", tool_calls=[call("1")]), result("1")],
        [user("a"), assistant("b", tool_calls=[call("1")]), result("1")],
    ),
    "an interruption's tag": (
        [user("a"), assistant("The pool is <ims_agent_interrupted>"), user("b")],
        [user("a"), assistant("The pool is"), user("b")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_a_broken_history_is_repaired(name: str) -> None:
    broken, mended = HISTORIES[name]
    assert upstream_messages(broken) == mended
    assert upstream_messages(mended) == mended, "a repaired history must not change again"


def test_many_messages_in_a_row_are_joined_quickly() -> None:
    began = time.process_time()
    [_, joined] = upstream_messages([assistant("word " * 1000) for _ in range(4000)])
    assert len(str(joined["content"])) > 19_000_000 and time.process_time() - began < 3


def test_what_the_caller_heard_of_an_interrupted_answer_is_read() -> None:
    def interrupted(*messages: Message) -> str:
        return read_request({"messages": list(messages)}, {}, {}, "").call.interrupted

    assert interrupted(user("a"), assistant("The pool <ims_agent_interrupted>is open"), user("b")) == "The pool"
    assert interrupted(user("a"), assistant("The pool", metadata={"interrupted": True}), user("b")) == "The pool"
    assert interrupted(user("a"), assistant("The pool is open."), user("b")) == ""


async def test_a_prompt_can_use_what_the_host_sent_about_the_call(tmp_path: Path) -> None:
    text = "Caller {{ call.caller_number }} in {{ call.channel }}: {{ call.extras.plan }}"
    spec = Graph(name="known", steps=(Step("rewrite_messages", options={"template": text}), Step("call_model")))
    async with upstream() as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        body = {"messages": [user("{{ 7 * 7 }}")], "stream": True, "customer": {"number": "+49"}, "plan": "{{ gold }}"}
        body["metadata"] = {"channel": "room"}
        await served.post("/known/chat/completions", body)
    system, said = up.bodies[0]["messages"]
    assert system["content"] == "Caller +49 in room: {{ gold }}" and said["content"] == "{{ 7 * 7 }}"
