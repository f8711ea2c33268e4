"""The tolerant reader of requests: the fields it keeps, the spellings it knows, and the few things it refuses."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialgraph.graph.spec import END, Graph, Step
from server.errors import ApiError
from server.http.json_body import json_object
from server.protocols.chat_completions.request import CompletionRequest, read_request
from tests.support.serving import serving

USER = [{"role": "user", "content": "hi"}]


def read(body: Any, headers: dict[str, str] | None = None, query: dict[str, str] | None = None) -> CompletionRequest:
    """Return the request that is read from this body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_request(json_object(data), headers or {}, query or {}, "alice")


@pytest.mark.parametrize(
    "odd",
    [
        {
            "messages": [
                {"role": "assistant", "tool_calls": [{"id": {}, "function": {"name": 1, "arguments": 2}}]},
                *USER,
            ]
        },
        {"messages": [{"role": "assistant", "content": None, "tool_calls": None}, *USER]},
        {"messages": [{"role": "assistant", "tool_calls": ["x", 1, None]}, *USER]},
        {"messages": [{"role": "tool", "tool_call_id": "x", "content": [{"type": "text", "text": 1}]}, *USER]},
        {"messages": [{"role": "user", "content": "hi", "metadata": {"source": ["a"], "interrupted": True}}]},
        {
            "messages": USER,
            "metadata": {"source": {"a": 1}, "call_id": [1]},
            "call": 1,
            "extendData": [],
            "context": "x",
        },
        {"messages": USER, "user": {"a": 1}, "tools": [1, None, {"function": "x"}, {"function": {"name": 5}}]},
        {"messages": USER, "deep": json.loads("[" * 400 + "]" * 400), "call_id": "c"},
    ],
)
async def test_odd_json_is_answered_or_refused_and_never_a_500(tmp_path: Path, odd: dict[str, Any]) -> None:
    steps = (Step("greet", then={"words": "call_model", "spoken": END, "over": END}), Step("call_model"))
    async with serving(tmp_path, (Graph(name="greeter", steps=steps), [])) as served:
        for path in ("/chat/completions", "/greeter/chat/completions"):
            assert (await served.post(path, odd)).status in (200, 400)


def test_fields_for_the_model_pass_and_fields_of_the_host_stay() -> None:
    request = read(
        {
            "messages": USER, "model": "m", "stream": True, "temperature": 0.5, "max_completion_tokens": 9, "seed": 4,
            "some_new_parameter": {"a": 1}, "tools": None, "stream_options": {"include_usage": True},
            "turn_id": 4, "timestamp": 1, "interruptable": True, "context": {"presence": {}}, "extendData": {},
            "elevenlabs_extra_body": {}, "user_id": "u", "customer": {"number": "1"},
        }
    )  # fmt: skip
    assert request.parameters == {
        "temperature": 0.5,
        "max_completion_tokens": 9,
        "seed": 4,
        "some_new_parameter": {"a": 1},
        "stream_options": {"include_usage": True},
    }
    assert (request.model, request.stream, request.include_usage) == ("m", True, True)
    assert request.call.extras["turn_id"] == 4
    assert request.messages == USER


@pytest.mark.parametrize(
    ("body", "headers", "query", "found"),
    [
        (
            {"extendData": {"instanceId": "i1", "sentenceId": "3", "callerNumber": "138", "calleeNumber": "139"}},
            {}, {},
            {"id": "i1", "turn_id": "3", "caller_number": "138", "callee_number": "139"},
        ),
        (
            {"extendData": {"channelId": "c", "userData": '{"a":1}'}},
            {}, {},
            {"channel": "c", "user_data": '{"a":1}'},
        ),
        ({"extendData": {"instanceId": "i1", "sentenceId": 3}}, {}, {}, {"turn_id": "3"}),
        ({}, {}, {"task_id": "t1", "room_id": "r1"}, {"id": "t1", "channel": "r1"}),
        ({"turn_id": 4, "channel": "room"}, {}, {}, {"turn_id": "4", "id": "room", "channel": "room"}),
        ({"call": {"id": "v1"}, "customer": {"number": "+49"}}, {}, {}, {"id": "v1", "caller_number": "+49"}),
        ({}, {}, {"custom_session_id": "h1"}, {"id": "h1"}),
        ({}, {"x-call-id": "l1"}, {}, {"id": "l1"}),
        ({"user_id": "u1"}, {}, {}, {"user_data": "u1"}),
    ],
)  # fmt: skip
def test_the_call_is_found_in_the_fields_of_every_host(
    body: dict[str, Any], headers: dict[str, str], query: dict[str, str], found: dict[str, str]
) -> None:
    call = read({"messages": USER, **body}, headers, query).call
    assert {name: getattr(call, name) for name in found} == found
    assert call.principal == "alice"


def test_no_field_of_a_request_changes_the_principal() -> None:
    call = read({"messages": USER, "principal": "root", "call": {"principal": "root"}}, {"x-principal": "root"}).call
    assert call.principal == "alice"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": ["two", "texts"]},
        {"role": "developer", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image", "image_url": "https://x"}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": {}}]},
        {"role": "assistant", "turn_id": 2, "metadata": {"interrupted": True}},
        {"role": "tool", "content": "x", "tool_call_id": "a"},
        {"role": "user", "name": "Ann", "content": ""},
    ],
)
def test_legal_messages_pass_unchanged(message: dict[str, Any]) -> None:
    assert read({"messages": [message]}).messages == [message]


@pytest.mark.parametrize(
    ("body", "param", "sentence"),
    [
        (b"{", None, "The body is not valid JSON."),
        (b"", None, "The body is not valid JSON."),
        (b'{"messages": NaN}', None, "The body is not valid JSON."),
        (b'{"messages": [' + b"[" * 100_000, None, "The body is not valid JSON."),
        (b"[]", None, "The body must be a JSON object."),
        ({}, "messages", "`messages` must be a list with at least one message."),
        ({"messages": []}, "messages", "`messages` must be a list with at least one message."),
        ({"messages": "hi"}, "messages", "`messages` must be a list with at least one message."),
        ({"messages": USER * 5000}, "messages", "`messages` may hold at most 4096 messages."),
        ({"messages": ["hi"]}, "messages[0]", "`messages[0]` must be an object."),
        (
            {"messages": [*USER, {"role": "banana", "content": "x"}]},
            "messages[1].role",
            "`messages[1].role` must be one of system, developer, user, assistant, tool, function.",
        ),
        (
            {"messages": [{"role": "user", "content": 7}]},
            "messages[0].content",
            "`messages[0].content` must be text, a list of parts, or null.",
        ),
        (
            {"messages": [{"role": "user", "content": [7]}]},
            "messages[0].content",
            "`messages[0].content` must hold parts, each text or an object.",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].tool_call_id",
            "`messages[0].tool_call_id` must be the `id` of the tool call that the message answers.",
        ),
        ({"messages": USER, "stream": "yes"}, "stream", "`stream` must be true or false."),
        ({"messages": USER, "model": 7}, "model", "`model` must be text."),
        (
            {"messages": USER, "model": "a\r\nb"},
            "model",
            "`model` must be printable text of at most 256 characters.",
        ),
        ({"messages": USER, "n": 2}, "n", "`n` must be 1: only one answer can be spoken."),
        ({"messages": USER, "tools": {}}, "tools", "`tools` must be a list."),
        ({"messages": USER, "stream_options": []}, "stream_options", "`stream_options` must be an object."),
        ({"messages": USER, "modalities": "audio"}, "modalities", "`modalities` must be a list."),
    ],
)
def test_an_invalid_field_is_refused_by_name(body: Any, param: str | None, sentence: str) -> None:
    with pytest.raises(ApiError) as refused:
        read(body)
    assert (refused.value.status, refused.value.param, refused.value.message) == (400, param, sentence)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["messages", "model", "stream", "tools", "n", "call", "customer", "extendData", "context", "x"]
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(fields, json_values, max_size=6), st.booleans())
def test_any_json_is_read_or_refused_and_never_crashes(body: dict[str, Any], legal: bool) -> None:
    if legal:
        body["messages"] = USER
    with suppress(ApiError):
        assert read(body).messages == body["messages"]
