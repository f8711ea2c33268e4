"""The event reader, the answers of the relay, LangChain's models, and the embedded model."""

from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import SecretStr

from dialgraph.models.errors import ModelError
from dialgraph.models.extractive import ExtractiveModel, answer
from dialgraph.models.langchain import LangChainModel
from dialgraph.models.parts import Finish, Part, Relay, Say, ToolCallPart, Usage
from dialgraph.models.port import ENGINES, ChatModel, ChatRequest, ModelAddress, open_model
from dialgraph.models.relay.sse import EventReader, EventTooLargeError
from tests.support.upstream import calls, says, upstream


def read(*pieces: bytes, limit: int = 1000) -> list[tuple[bytes, bytes]]:
    """Return name and data of every event in a stream that arrives in these pieces."""
    reader = EventReader(limit)
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [(event.name, event.data) for event in events + reader.end()]


@pytest.mark.parametrize(
    ("pieces", "data"),
    [
        ([b"data: a\n\n"], [b"a"]),
        ([b"data:a\n\ndata: b\n\n"], [b"a", b"b"]),
        ([b"data: a\r\n\r\ndata: b\r\n\r\n"], [b"a", b"b"]),
        ([b"data: a\r\rdata: b\r\r"], [b"a", b"b"]),
        ([b"data: a\r", b"\n\r", b"\ndata: b\r\n\r\n"], [b"a", b"b"]),
        ([b"\xef\xbb\xbfdata: a\n\n"], [b"a"]),
        ([b"\xef", b"\xbb\xbfda", b"ta: a\n\n"], [b"a"]),
        ([b": note\nid: 1\nretry: 2\ndata: a\n\n"], [b"a"]),
        ([b"data: a\ndata: b\n\n"], [b"a\nb"]),
        ([b"data\n\n"], [b""]),
        ([b"data:  two spaces\n\n"], [b" two spaces"]),
        ([b"event: ping\n\ndata: a\n\n"], [b"a"]),
        (["data: a\u2028b\u0085c\n\n".encode()], ["a\u2028b\u0085c".encode()]),
        ([b"data: unfinished"], [b"unfinished"]),
        ([b"\n\n\n"], []),
        ([], []),
    ],
)
def test_events_are_read_as_the_sse_specification_says(pieces: list[bytes], data: list[bytes]) -> None:
    assert [event[1] for event in read(*pieces)] == data


def test_an_event_keeps_its_name() -> None:
    assert read(b"event: error\ndata: x\n\ndata: y\n\n") == [(b"error", b"x"), (b"", b"y")]


@pytest.mark.parametrize(
    "pieces", [[b"data: " + b"x" * 2000 + b"\n\n"], [b"x" * 600, b"x" * 600], [b"data: " + b"x" * 600 + b"\n"] * 2]
)
def test_a_line_or_event_over_the_limit_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(EventTooLargeError):
        read(*pieces)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20)


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, max_size=6), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_the_same_events_are_read_from_any_pieces(words: list[str], end: str, data: st.DataObject) -> None:
    stream = "".join(f": c{end}data: {word}{end}{end}" for word in words).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [event[1].decode() for event in read(*pieces)] == words
    assert [event[1].decode() for event in read(*(bytes([byte]) for byte in stream))] == words


async def parts_of(model: ChatModel, request: ChatRequest) -> list[Part]:
    """Return all parts of the answer."""
    async with AsyncExitStack() as stack:
        return [part async for part in model.stream(request, stack)]


HI = ({"role": "user", "content": "hi"},)


@pytest.mark.parametrize("name", ["relay", "langchain"])
async def test_the_relay_and_langchain_give_the_same_answer(name: str) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    spoken = [*says("Hello ", "你好")[:-1], ("usage", usage), ("done",)]
    async with upstream(spoken, calls("f", '{"a":1}')) as up:
        url = up.url if name == "relay" else f"langchain:openai?base_url={up.url}"
        model = open_model("main", ModelAddress(url, "m", SecretStr("k")))
        text = await parts_of(model, ChatRequest(HI, {"stream_options": {"include_usage": True}}))
        call = await parts_of(model, ChatRequest(HI))
        await model.aclose()
    assert "".join(part.text for part in text if isinstance(part, Say)) == "Hello 你好"
    assert [part.total_tokens for part in text if isinstance(part, Usage)] == [3]
    assert text[-1] == Finish("stop") and call[-1] == Finish("tool_calls")
    fragments = [part for part in call if isinstance(part, ToolCallPart)]
    assert [fragments[0].id, fragments[0].name] == ["up_call", "f"]
    assert "".join(part.arguments for part in fragments) == '{"a":1}'
    assert up.exchanges[0].headers["authorization"] == "Bearer k"


async def test_reasoning_refusals_and_logprobs_pass_the_relay() -> None:
    logprobs = {"content": [{"token": "x", "logprob": -0.1}]}
    chunk = {"choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": logprobs, "finish_reason": None}]}
    import json

    script = [
        ("delta", {"role": "assistant", "content": "", "reasoning_content": "hm"}),
        ("raw", b"data: " + json.dumps(chunk).encode() + b"\n\n"),
        ("delta", {"refusal": "no"}),
        ("finish", "length"),
        ("done",),
    ]
    async with upstream(script) as up:
        model = open_model("main", ModelAddress(up.url))
        parts = await parts_of(model, ChatRequest(HI))
        await model.aclose()
    assert parts == [
        Relay({"reasoning_content": "hm"}), Say("x", logprobs), Relay({"refusal": "no"}), Finish("length"),
    ]  # fmt: skip


@pytest.mark.parametrize(("status", "kind"), [(401, "unauthorized"), (429, "rate_limited"), (500, "failed")])
async def test_langchain_failures_become_model_errors(status: int, kind: str) -> None:
    refusal = [("status", status, {"content-type": "application/json"}, b'{"error":{"message":"secret"}}')]
    async with upstream(refusal) as up:
        model = open_model("main", ModelAddress(f"langchain:openai?base_url={up.url}"))
        with pytest.raises(ModelError) as raised:
            await parts_of(model, ChatRequest(HI))
        await model.aclose()
    assert raised.value.kind == kind and "secret" not in str(raised.value)


async def test_any_langchain_model_can_answer() -> None:
    model = LangChainModel(
        "fake", ModelAddress("langchain:given"), GenericFakeChatModel(messages=iter([AIMessage("Good day to you")]))
    )
    parts = await parts_of(model, ChatRequest(HI))
    assert "".join(part.text for part in parts if isinstance(part, Say)) == "Good day to you"
    assert parts[-1] == Finish("stop")


async def test_a_langchain_model_that_says_nothing_is_an_error() -> None:
    class Mute(GenericFakeChatModel):
        async def _astream(self, *args: Any, **kwargs: Any) -> Any:
            yield ChatGenerationChunk(message=AIMessageChunk(content=""))

    model = LangChainModel("mute", ModelAddress("langchain:given"), Mute(messages=iter([])))
    with pytest.raises(ModelError, match="empty answer"):
        await parts_of(model, ChatRequest(HI))


def test_an_unknown_engine_is_refused_with_the_accepted_ones() -> None:
    with pytest.raises(
        ValueError, match="model 'x': no engine for 'ftp'. Accepted: extractive, http, https, langchain."
    ):
        open_model("x", ModelAddress("ftp://y"))
    with pytest.raises(ValueError, match="An address begins with http:// or https://."):
        open_model("x", ModelAddress("localhost:11434"))
    with pytest.raises(ValueError, match="model 'x': unknown LangChain family 'nope'. Accepted: openai."):
        open_model("x", ModelAddress("langchain:nope"))
    assert set(ENGINES) == {"extractive", "http", "https", "langchain"}


PASSAGES = ["Breakfast is served from 7 to 10. It costs 14 euros.", "The pool is open until 9 p.m. Towels are free."]


@pytest.mark.parametrize(
    ("question", "held", "not_held"),
    [
        ("How long is the pool open?", "until 9 p.m.", "Breakfast"),
        ("What does breakfast cost?", "14 euros", "Towels"),
        ("Quantum chromodynamics?", "did not find", "Breakfast"),
    ],
)
def test_the_embedded_model_picks_the_sentences_that_answer(question: str, held: str, not_held: str) -> None:
    said = answer(question, PASSAGES)
    assert held in said and not_held not in said


def test_the_embedded_model_answers_in_the_language_of_the_question() -> None:
    assert "没有找到" in answer("量子色动力学？", PASSAGES)
    assert "did not find" in answer("Quantum chromodynamics?", ["早餐七点开始。"])
    assert "没有配置" in answer("你好", None)


HANGUP = {"type": "function", "function": {"name": "endCall", "description": "End the phone call."}}


@pytest.mark.parametrize(("said", "hangs_up"), [("ok bye", True), ("how do you say goodbye in French?", False)])
async def test_the_embedded_model_hangs_up_on_a_goodbye_if_it_can(said: str, hangs_up: bool) -> None:
    model = ExtractiveModel("main", ModelAddress("extractive:"))
    request = ChatRequest([{"role": "user", "content": said}], {"tools": [HANGUP]})
    parts = await parts_of(model, request)
    assert [part.name for part in parts if isinstance(part, ToolCallPart)] == (["endCall"] if hangs_up else [])
    without = await parts_of(model, ChatRequest([{"role": "user", "content": said}]))
    assert not [part for part in without if isinstance(part, ToolCallPart)]
