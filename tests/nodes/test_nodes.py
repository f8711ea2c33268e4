"""Each node, over a scripted upstream or called directly as a function."""

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.catalogue import catalogue
from dialgraph.graph.compile import compile_graph
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.passages import Passage
from dialgraph.services.services import OpenServices
from dialgraph.services.settings import GraphSettings
from dialgraph.turn import events as said
from dialgraph.turn.call import CallInfo
from dialgraph.turn.events import Event, Filler, Say
from dialgraph.turn.node import Turn, TurnRequest, node
from dialgraph.turn.upstream_messages import upstream_messages
from nodes.acknowledge import acknowledge
from nodes.hangup import hangup
from nodes.retrieve import retrieve
from nodes.rewrite_messages import rewrite_messages
from tests.support.serving import serving
from tests.support.upstream import Action, calls, says, upstream
from tests.support.wire import read_stream

OPENED: list[OpenServices] = []


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """Close what the turns of a test opened."""
    yield
    while OPENED:
        await OPENED.pop().aclose()


def turn_of(tmp_path: Path, *said: str, **fields: Any) -> tuple[Turn, list[Event]]:
    """Return a turn and the list of the events that it emits."""
    services = OpenServices(GraphSettings(data_dir=tmp_path))
    OPENED.append(services)
    messages = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]
    turn = Turn(services, TurnRequest(messages, **fields))
    events: list[Event] = []

    async def hear(event: Event) -> None:
        events.append(event)

    turn.line.connect(hear)
    return turn, events


def test_every_node_has_a_summary() -> None:
    assert set(catalogue()) == {
        "acknowledge", "call_model", "control_speech", "emit_audio", "greet", "hangup", "play_recording", "retrieve",
        "recall", "remember", "run_tools",
        "rewrite_messages", "rewrite_question", "send_digits", "transcribe", "transfer",
    }  # fmt: skip
    for one in catalogue().values():
        assert one.summary.endswith(".") or ":" in one.summary or ";" in one.summary, one.name


async def test_acknowledge_never_says_a_phrase_twice_in_a_row(tmp_path: Path) -> None:
    phrases = ("One moment.", "Let me check. ", "Let me see.")
    turn, events = turn_of(tmp_path, "hi", call=CallInfo(id="call-1"))
    for _ in range(12):
        again = Turn(turn.services, TurnRequest(turn.messages, call=turn.call))
        again.line.connect(turn.line.sink)
        await acknowledge({}, again, say=phrases, after_ms=0)
        await asyncio.sleep(0.005)
    said = [event.text for event in events if isinstance(event, Filler)]
    assert len(said) == 12 and all(text.endswith(" ") and not text.endswith("  ") for text in said)
    assert all(one != other for one, other in pairwise(said))


async def test_acknowledge_reads_the_history_if_the_host_sends_no_call_id(tmp_path: Path) -> None:
    phrases = ("One moment. ", "Let me check. ")
    for last in phrases:
        # The host cuts the history to the same length in every turn.
        turn, events = turn_of(tmp_path, "hi", f"{last}It is 7.", "and on Sundays?")
        await acknowledge({}, turn, say=phrases, after_ms=0)
        await asyncio.sleep(0.005)
        assert [event.text for event in events if isinstance(event, Filler)] != [last]


async def test_acknowledge_returns_immediately(tmp_path: Path) -> None:
    turn, events = turn_of(tmp_path, "hi")
    began = time.perf_counter()
    await acknowledge({}, turn, after_ms=5000)
    assert time.perf_counter() - began < 4, "acknowledge must not wait for the five seconds"
    await turn.say("Answer.")
    await turn.aclose()
    assert events == [Say("Answer.")]


@pytest.mark.parametrize(
    "content",
    [
        "Is there a sauna?",
        [{"type": "text", "text": "Is there"}, {"type": "text", "text": "a sauna?"}],
        ["Is there a sauna?"],
    ],
)
async def test_retrieve_takes_the_last_user_text_in_any_form(tmp_path: Path, content: Any) -> None:
    turn, _ = turn_of(tmp_path)
    turn.understand([{"role": "user", "content": content}, {"role": "assistant", "content": "um"}])
    update = await retrieve({"question": turn.question}, turn, top_k=1)
    assert update is not None
    passages: Any = update["passages"]
    assert "sauna" in passages[0].text and 0 < passages[0].score <= 1


async def test_retrieve_finds_nothing_for_silence(tmp_path: Path) -> None:
    turn, _ = turn_of(tmp_path)
    assert await retrieve({"question": " "}, turn) == {"passages": []}


PASSAGE = Passage("The pool opens at 8.", "hotel.md", "Pool", 0.9)


async def test_rewrite_messages_adds_one_message_and_moves_none(tmp_path: Path) -> None:
    turn, _ = turn_of(tmp_path)
    turn.understand(
        [
            {"role": "system", "content": "Be kind.", "turn_id": 0},
            {"role": "assistant", "content": "Hello.", "metadata": {"source": "greeting"}, "timestamp": 1},
            {"role": "user", "content": "When?", "turn_id": 1},
        ]
    )
    update = await rewrite_messages({"passages": [PASSAGE], "question": "When?"}, turn)
    assert update is not None
    prompt: Any = update["prompt"]
    assert [message["role"] for message in prompt] == ["system", "system", "user", "assistant", "user"]
    assert prompt[0] == {"role": "system", "content": "Be kind."}
    assert "The pool opens at 8." in prompt[1]["content"] and "hotel.md" in prompt[1]["content"]
    assert prompt[3:] == [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "When?"}]


async def test_rewrite_messages_says_what_to_do_when_nothing_was_found(tmp_path: Path) -> None:
    turn, _ = turn_of(tmp_path, "When?")
    update = await rewrite_messages({"question": "When?"}, turn)
    assert update is not None
    prompt: Any = update["prompt"]
    assert prompt[0]["role"] == "system" and prompt[0]["content"].startswith("Nothing was found about")
    assert prompt[1:] == [{"role": "user", "content": "When?"}]


async def test_a_template_can_use_the_call_and_nothing_unsafe(tmp_path: Path) -> None:
    turn, _ = turn_of(tmp_path, "hi", call=CallInfo(caller_number="138", extras={"plan": "gold"}))
    update = await rewrite_messages(
        {"question": "hi"}, turn, template="Caller {{ call.caller_number }} {{ call.extras.plan }}."
    )
    assert update is not None
    prompt: Any = update["prompt"]
    assert prompt[0]["content"] == "Caller 138 gold."
    update = await rewrite_messages({"question": "hi"}, turn, template="{{ call.__class__.__mro__ }}")
    assert update == {"prompt": [{"role": "user", "content": "hi"}]}, "what belongs to Python is left out"


def test_pictures_reach_the_model_in_openais_form() -> None:
    given = [
        {"type": "image", "image_url": "https://a/b.png"},
        {"type": "image_url", "image_url": {"url": "https://a/c.png", "detail": "low"}},
        {"type": "image_url", "image_url": "https://a/d.png"},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        "text",
    ]
    (message,) = upstream_messages([{"role": "user", "content": given, "timestamp": 5}])
    assert message == {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
            {"type": "image_url", "image_url": {"url": "https://a/c.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://a/d.png"}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "text", "text": "text"},
        ],
    }


async def test_call_model_passes_every_parameter_on(tmp_path: Path) -> None:
    parameters = {
        "temperature": 0.2, "top_p": 0.9, "max_tokens": 50, "seed": 3, "stop": ["User:"], "logprobs": True,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"a": {}}}},
        "top_logprobs": 2, "reasoning_effort": "low", "parallel_tool_calls": False, "tool_choice": "auto",
        "user": "u", "metadata": {"k": "v"}, "store": True,
        "tools": [{"type": "function", "function": {"name": "f"}}], "stream_options": {"include_usage": True},
        "a_parameter_of_tomorrow": [1],
    }  # fmt: skip
    extra = {"extra_fields": ("a_parameter_of_tomorrow",), "dialect": ("names", "ids")}
    messages = [
        {"role": "user", "content": "a", "name": "Ann", "turn_id": 1},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "c", "content": "1", "name": "f"},
    ]  # fmt: skip
    async with (
        upstream(strict=False) as up,
        serving(tmp_path, models={"main": {"url": up.url, "model": "small", **extra}}) as served,
    ):
        body = {"messages": messages, "stream": True, "model": "big", "turn_id": 3, "audio": None, **parameters}
        read_stream((await served.post("/chat/completions", body)).body)
    stripped = [{"role": "user", "content": "a", "name": "Ann"}, *messages[1:]]
    assert up.bodies[0] == {"model": "big", "messages": stripped, "stream": True, **parameters}


async def test_call_model_drops_the_tool_choice_if_there_are_no_tools(tmp_path: Path) -> None:
    async with upstream(strict=False) as up, serving(tmp_path, models={"main": up.url}) as served:
        await served.ask(tool_choice="auto", parallel_tool_calls=True, tools=[])
    assert up.bodies[0].keys() == {"messages", "stream", "stream_options"}


@pytest.mark.parametrize(
    ("path", "model", "asked"),
    [
        ("/chat/completions", "gpt-x", "gpt-x"),
        ("/chat/completions", "", "small"),
        ("/chat/completions", "chat", "small"),
        ("/v1/chat/completions", "gpt-x", "gpt-x"),
        ("/v1/chat/completions", "meta/llama-3", "meta/llama-3"),
        ("/v1/chat/completions", "rag", "small"),
        ("/v1/chat/completions", "rag/gpt-x", "gpt-x"),
        ("/v1/chat/completions", "rag/meta/llama-3", "meta/llama-3"),
        ("/rag/chat/completions", "gpt-x", "gpt-x"),
    ],
)
async def test_the_request_chooses_the_upstreams_model(tmp_path: Path, path: str, model: str, asked: str) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": {"url": up.url, "model": "small"}}) as served:
        fields = {"model": model} if model else {}
        answer = read_stream((await served.ask("Is there a pool?", path, **fields)).body)
    assert up.bodies[0]["model"] == asked
    retrieved = any("pool" in str(message["content"]) for message in up.bodies[0]["messages"][:-1])
    assert retrieved == ("rag" in path or model.startswith("rag"))
    assert {chunk["model"] for chunk in answer.chunks} == {model or "chat"}


def call_chunk(index: int, name: str) -> Action:
    """Return a whole tool call in one chunk."""
    call = {"index": index, "id": f"call{index}", "function": {"name": name, "arguments": "{}"}}
    return ("delta", {"tool_calls": [call]})


OWN_TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


@pytest.mark.parametrize(
    ("script", "words", "made"),
    [
        ([("chunk", "Take care."), *calls("hangup")], "Take care.", ["hangup"]),
        (calls("hangup"), "Thank you for calling. Goodbye!", ["hangup"]),
        (
            [
                *[call_chunk(at, "hangup") for at in range(3)],
                ("finish", "tool_calls"), ("done",),
            ],
            "Thank you for calling. Goodbye!", ["hangup"],
        ),
        ([("chunk", "Let me look."), *calls("weather")], "Let me look.", ["weather"]),
        (
            [
                call_chunk(0, "hangup"), call_chunk(1, "weather"),
                ("finish", "tool_calls"), ("done",),
            ],
            "Thank you for calling. Goodbye!", ["weather", "hangup"],
        ),
    ],
)  # fmt: skip
async def test_a_hangup_of_the_model_is_carried_out_once(
    tmp_path: Path, script: list[Action], words: str, made: list[str]
) -> None:
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}) as served:
        answer = read_stream((await served.ask("bye", "/hangup/chat/completions", tools=[OWN_TOOL])).body)
    assert answer.text == words
    assert [call["name"] for call in answer.tool_calls] == made
    assert answer.finish == "tool_calls"
    assert [tool["function"]["name"] for tool in up.bodies[0]["tools"]] == ["weather", "hangup"]


async def test_hangup_uses_the_hosts_own_name_and_arguments(tmp_path: Path) -> None:
    spec = Graph(
        name="host",
        steps=(
            Step("call_model", then={"answered": END, "leave": "hangup"}),
            Step("hangup", options={"tool": "end_call", "finish": "stop", "say": "Bye."}),
        ),
    )
    declared = {
        "type": "function",
        "function": {"name": "end_call", "parameters": {"type": "object", "properties": {"reason": {}}}},
    }
    again = call_chunk(1, "end_call")
    async with upstream(
        [*calls("end_call", '{"reason":"done"}')[:-2], again, ("finish", "tool_calls"), ("done",)],
        calls("end_call", ""),
    ) as up:
        async with serving(tmp_path, (spec, []), models={"main": up.url}) as served:
            own = read_stream((await served.ask("bye", "/host/chat/completions", tools=[declared])).body)
            ours = read_stream((await served.ask("bye", "/host/chat/completions")).body)
    assert [(call["name"], call["arguments"]) for call in own.tool_calls] == [("end_call", '{"reason":"done"}')]
    assert [(call["name"], call["arguments"]) for call in ours.tool_calls] == [("end_call", "{}")]
    assert own.finish == "stop" and own.text == "Bye."
    assert [len(body["tools"]) for body in up.bodies] == [1, 1]


async def test_hangup_can_be_a_text_command(tmp_path: Path) -> None:
    turn, events = turn_of(tmp_path, "bye")
    await hangup({}, turn, say="Bye.", command="<imsagent_hangup/>")
    assert events[0] == Say("Bye.")
    assert isinstance(events[1], said.Action) and events[1].command == "<imsagent_hangup/>" and len(events) == 2


async def test_hangup_says_no_goodbye_after_words_of_the_turn(tmp_path: Path) -> None:
    turn, events = turn_of(tmp_path, "再见")
    await turn.say("祝您愉快。")
    await hangup({}, turn)
    assert [event.text for event in events if isinstance(event, Say)] == ["祝您愉快。"]
    assert [event.kind for event in events if isinstance(event, said.Action)] == ["hangup"]


async def test_an_authors_node_needs_one_decorated_function(tmp_path: Path) -> None:
    @node(writes="mood", speaks=True)
    async def cheer(state: Any, turn: Turn, *, times: int = 1) -> dict[str, object]:
        """Cheer the caller up."""
        await turn.say("Hooray! " * times)
        return {"mood": "good"}

    spec = Graph(name="cheer", steps=(Step("cheer", options={"times": 2}),))
    async with serving(tmp_path, (spec, [cheer])) as served:
        assert read_stream((await served.ask("hi", "/cheer/chat/completions")).body).text == "Hooray! Hooray! "
    assert compile_graph(spec, [cheer]).name == "cheer"


async def test_the_model_is_not_asked_for_audio_if_the_server_speaks(tmp_path: Path) -> None:
    async with upstream(says("Yes.")) as up, serving(tmp_path, models={"main": up.url}) as served:
        fields = {"modalities": ["audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
        answer = read_stream((await served.ask("hi", "/audio/chat/completions", **fields)).body)
    assert answer.transcript == "Yes." and answer.audio
    assert "modalities" not in up.bodies[0] and "audio" not in up.bodies[0]
