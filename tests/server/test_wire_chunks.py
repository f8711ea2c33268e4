"""The encoder: any events make a legal stream, the whole reply equals the stream, and golden files show changes."""

import re
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialgraph.project import ROOT
from dialgraph.turn import events as said
from dialgraph.turn.events import Audio, Event, Filler, Finish, Relay, Say, Timing, ToolCallPart, Transcript, Usage
from server.protocols.chat_completions.chunks import ChunkEncoder
from server.protocols.chat_completions.completion import CompletionFolder
from server.protocols.sse import DONE, frame
from tests.support.serving import serving
from tests.support.upstream import Action, calls, says, upstream
from tests.support.wire import read_stream

WIRES = ROOT / "tests" / "wires"


def stream(events: list[Event], *, include_usage: bool = True) -> bytes:
    """Return the whole stream of these events."""
    encoder = ChunkEncoder(id="chatcmpl-1", created=1, model="m", include_usage=include_usage)
    chunks = [chunk for event in events for chunk in encoder.encode(event)]
    return b"".join(map(frame, [*chunks, *encoder.end()])) + DONE


words = st.text(max_size=12)
say = st.builds(Say, words)
sound = st.builds(Transcript, st.just("audio_1"), words) | st.builds(
    Audio, st.just("audio_1"), st.binary(max_size=8).map(lambda pcm: pcm * 2)
)
relay = st.builds(lambda text: Relay({"reasoning_content": text}), words)
quiet = st.builds(Usage, *[st.integers(0, 9)] * 3) | st.builds(Timing, words, *[st.just(0.0)] * 2, st.just("ok"))
finish = st.builds(Finish, st.sampled_from(["stop", "length", "content_filter", "tool_calls", "eos", ""]))
action = st.builds(
    said.Action, st.just("call_x"), st.sampled_from(["hangup", "transfer", "digits"]), given=st.just('{"a":1}')
)
filler = st.builds(Filler, words)


@st.composite
def relayed_calls(draw: st.DrawFn) -> list[Event]:
    """Draw tool calls of a model in fragments, as the relay normalises them."""
    parts: list[Event] = []
    for index in range(draw(st.integers(1, 3))):
        parts += [
            ToolCallPart(index, f"call_{index}", "f", ""), ToolCallPart(index, arguments='{"a"'),
            ToolCallPart(index, arguments=":1}"),
        ]  # fmt: skip
    return parts


@st.composite
def turns(draw: st.DrawFn) -> list[Event]:
    """Draw any events in any order. Only the parts of one tool call keep their order."""
    events: list[Event] = draw(st.lists(say | filler | sound | relay | quiet | action | finish, max_size=14))
    for part in reversed(draw(st.just([]) | relayed_calls())):
        # Each part is inserted before the last inserted one, so that the parts keep their order.
        latest = next((at for at, event in enumerate(events) if isinstance(event, ToolCallPart)), len(events))
        events.insert(draw(st.integers(0, latest)), part)
    return events


@settings(max_examples=400, deadline=None)
@given(turns(), st.booleans())
def test_any_events_make_a_legal_stream(events: list[Event], include_usage: bool) -> None:
    answer = read_stream(stream(events, include_usage=include_usage))
    spoken = [
        event.text.rstrip() + " " if isinstance(event, Filler) else event.text
        for event in events
        if isinstance(event, Say | Filler)
    ]
    assert answer.text == "".join(spoken)
    relayed = sum(isinstance(event, ToolCallPart) and event.name is not None for event in events)
    # At most one action is sent, even if several were emitted.
    assert len(answer.tool_calls) == relayed + any(isinstance(event, said.Action) for event in events)
    assert all(call["arguments"] == '{"a":1}' for call in answer.tool_calls)
    assert (answer.usage is not None) == (include_usage and any(isinstance(event, Usage) for event in events))


@settings(max_examples=200, deadline=None)
@given(turns())
def test_the_whole_reply_equals_the_stream(events: list[Event]) -> None:
    answer = read_stream(stream(events))
    encoder = ChunkEncoder(id="chatcmpl-1", created=1, model="m", include_usage=True)
    folder = CompletionFolder()
    for event in events:
        folder.add(encoder.encode(event))
    folder.add(encoder.end())
    whole = orjson.loads(folder.body())
    message = whole["choices"][0]["message"]
    assert whole["object"] == "chat.completion"
    assert (message["content"] or "") == answer.text
    assert [(one["id"], one["function"]["arguments"]) for one in message.get("tool_calls", [])] == [
        (call["id"], call["arguments"]) for call in answer.tool_calls
    ]
    assert whole["choices"][0]["finish_reason"] == answer.finish
    assert message.get("reasoning_content", "") == answer.reasoning
    if answer.audio_ids:
        assert message["audio"]["transcript"] == answer.transcript
    assert whole.get("usage") == answer.usage


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "\u2028", "\u0085", "\x00", 'quote " and \\', "data: [DONE]\n\n", "👩‍🚀"]
)
def test_any_text_is_sent_as_one_event(text: str) -> None:
    assert read_stream(stream([Say(text)])).text == text


def _plain(body: bytes) -> str:
    """Return the stream without the values that differ from run to run."""
    text = re.sub(r'"created":\d+', '"created":0', body.decode())
    names: dict[str, str] = {}
    for kind in ("chatcmpl-", "call_", "audio_"):
        for found in dict.fromkeys(re.findall(rf'"({kind}[0-9a-f]{{24,32}})"', text)):
            names[found] = f"{kind}{sum(name.startswith(kind) for name in names) + 1}"
    for found, name in names.items():
        text = text.replace(found, name)
    return re.sub(r'"data":"([A-Za-z0-9+/=]+)"', lambda one: f'"data":"<{len(one[1]) * 3 // 4} bytes or less>"', text)


USAGE: Action = ("usage", {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
CASES: dict[str, tuple[str, str, list[Action] | None]] = {
    "chat": ("/chat/completions", "Good morning", None),
    "chat-zh": ("/chat/completions", "早上好", None),
    "rag": ("/rag/chat/completions", "Can I bring my dog?", None),
    "rag-zh": ("/rag/chat/completions", "停车多少钱？", None),
    "audio": ("/audio/chat/completions", "What is the wifi password?", None),
    "hangup": ("/hangup/chat/completions", "Thank you, goodbye.", None),
    "relayed-text": ("/chat/completions", "hi", [*says("Hello ", "there")[:-1], USAGE, ("done",)]),
    "relayed-tool-call": ("/chat/completions", "hi", calls("weather", '{"city":"Bonn"}')),
    "relayed-hangup": ("/hangup/chat/completions", "hi", [("chunk", "Take care."), *calls("hangup")]),
    "error-frame": ("/chat/completions", "hi", [("chunk", "Half a "), ("sleep", 0.05), ("fin",)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_the_wire_equals_its_golden_file(tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    """Show a change of the wire as a diff. To accept it, delete the golden file and run the test again."""
    path, question, script = CASES[name]
    async with upstream(*([script] if script else [])) as up:
        models = {"models": {"main": up.url}} if script else {}
        async with serving(tmp_path, **models) as served:
            body = (await served.ask(question, path, stream_options={"include_usage": True})).body
    read_stream(body)
    file = WIRES / f"{name}.sse"
    if not file.exists():
        file.write_text(_plain(body), encoding="utf-8")
        pytest.fail(f"{file.name} was missing and has been written: check it and commit it")
    assert _plain(body) == file.read_text(encoding="utf-8")


def _golden_files() -> Iterator[Path]:
    yield from sorted(WIRES.glob("*.sse"))


def test_every_case_has_a_golden_file() -> None:
    assert {file.stem for file in _golden_files()} == set(CASES)
