"""The Responses API: what it reads, what it sends, and that it sends the same as chat completions."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.serving import Reply, serving
from tests.support.upstream import Action, calls, says, upstream
from tests.support.wire import read_stream

PATH = "/v1/responses"
USAGE: Action = ("usage", {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})


def events_of(reply: Reply) -> list[dict[str, Any]]:
    """Return the events of a stream, after checking the name and the number of each."""
    *blocks, done, nothing = reply.body.decode().split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    events = []
    for number, block in enumerate(block for block in blocks if block != ": ka"):
        name, data = block.split("\n")
        event = orjson.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}" and event["sequence_number"] == number
        events.append(event)
    return events


async def test_words_and_a_hangup_become_a_message_and_a_function_call(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        body = {"model": "hangup", "input": "Thanks, bye!", "stream": True}
        events = events_of(await served.post(PATH, body))
        whole = (await served.post(PATH, {**body, "stream": False})).json()
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[:3] == ["created", "output_item.added", "content_part.added"] and kinds[-1] == "completed"
    assert kinds[3:] == [
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "output_item.added",
        "function_call_arguments.delta", "function_call_arguments.done", "output_item.done", "completed",
    ]  # fmt: skip
    response = events[-1]["response"]
    message, call = response["output"]
    assert message["content"][0]["text"] == "Thank you for calling. Goodbye!"
    assert (call["name"], call["arguments"], call["status"]) == ("hangup", "{}", "completed")
    assert {event["response"]["id"] for event in (events[0], events[-1])} == {response["id"]}
    assert [item["type"] for item in whole["output"]] == ["message", "function_call"]
    assert whole["status"] == "completed" and whole["object"] == "response" and whole["usage"]["total_tokens"] == 0


async def test_a_request_becomes_the_same_chat_completion(tmp_path: Path) -> None:
    image = {"type": "input_image", "image_url": "data:x", "detail": "low"}
    body = {
        "model": "m", "stream": True, "instructions": "Be brief.", "temperature": 0.5, "max_output_tokens": 9,
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
        "tool_choice": {"type": "function", "name": "f"}, "store": True, "include": ["x"], "truncation": "auto",
        "text": {"format": {"type": "json_schema", "name": "s", "schema": {}}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"}, "parallel_tool_calls": False,
        "input": [
            {"role": "developer", "content": "Rules."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look"}, image]},
            {"type": "reasoning", "id": "r", "summary": []},
            {"id": "m", "type": "message", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "One ", "annotations": []},
                         {"type": "output_text", "text": "two"}]},
            {"type": "function_call", "id": "fc", "call_id": "c1", "name": "f", "arguments": "{}", "status": "x"},
            {"type": "function_call", "call_id": "c2", "name": "f", "arguments": '{"a":1}', "parsed_arguments": None},
            {"type": "function_call_output", "call_id": "c1", "output": "done"},
            {"type": "function_call_output", "call_id": "c2", "output": {"r": 1}},
        ],
    }  # fmt: skip
    async with upstream(strict=False) as up:
        model = {"url": up.url, "dialect": ("developer", "late_system", "ids")}
        async with serving(tmp_path, models={"main": model}) as served:
            assert (await served.post(PATH, body)).status == 200

    def call(identity: str, arguments: str) -> dict[str, Any]:
        return {"id": identity, "type": "function", "function": {"name": "f", "arguments": arguments}}

    assert up.bodies[0] == {
        "model": "m", "stream": True, "temperature": 0.5, "max_completion_tokens": 9, "parallel_tool_calls": False,
        "stream_options": {"include_usage": True}, "verbosity": "low", "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "Rules."},
            {"role": "user", "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}]},
            {"role": "assistant", "content": "One two", "tool_calls": [call("c1", "{}"), call("c2", '{"a":1}')]},
            {"role": "tool", "tool_call_id": "c1", "content": "done", "name": "f"},
            {"role": "tool", "tool_call_id": "c2", "content": '{"r":1}', "name": "f"},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [1]}, "input[0]"),
        ({"input": [{"role": "banana", "content": "x"}]}, "messages[0].role"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"instructions": 5}, "instructions"),
    ],
)
async def test_an_unsupported_field_is_refused_by_name(tmp_path: Path, fields: dict[str, Any], param: str) -> None:
    async with serving(tmp_path) as served:
        reply = await served.post(PATH, {"input": "hi", "stream": True, **fields})
    assert reply.status == 400 and reply.error["param"] == param


async def test_errors_before_and_after_the_first_byte_are_reported(tmp_path: Path) -> None:
    scripts: list[list[Action]] = [[("status", 422, {}, b"{}")], [("chunk", "Half "), ("sleep", 0.05), ("fin",)]]
    async with upstream(*scripts) as up, serving(tmp_path, models={"main": up.url}) as served:
        before = await served.post(PATH, {"input": "hi", "stream": True})
        events = events_of(await served.post(PATH, {"input": "hi", "stream": True}))
    assert before.status == 400 and before.error["code"] == "upstream_rejected"
    error = events[-1]
    assert error["type"] == "error" and error["error"]["message"] == error["message"]
    assert error["code"] == error["error"]["code"] == "upstream_incomplete"
    assert not any(event["type"] == "response.completed" for event in events)


@pytest.mark.parametrize(("reason", "told"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
async def test_an_answer_that_was_cut_says_why(tmp_path: Path, reason: str, told: str) -> None:
    script = [*says("Half", finish=reason)[:-1], USAGE, ("done",)]
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}) as served:
        last = events_of(await served.post(PATH, {"input": "hi", "stream": True}))[-1]
    assert last["type"] == "response.incomplete" and last["response"]["incomplete_details"] == {"reason": told}
    assert last["response"]["usage"]["input_tokens"] == 3 and last["response"]["output"][0]["status"] == "incomplete"


async def test_both_protocols_can_share_one_turn_and_send_the_same(tmp_path: Path) -> None:
    script: list[Action] = [("chunk", "Let me "), ("sleep", 0.2), *calls("weather", '{"city":"Bonn"}')]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    async with upstream(default=script) as up, serving(tmp_path, models={"main": up.url}) as served:
        headers = {"x-call-id": "c"}
        chat = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "tools": tools}
        chat |= {"stream_options": {"include_usage": True}, "model": "chat"}
        answer = read_stream((await served.post("/v1/chat/completions", chat, headers)).body)
        body = {"input": "hi", "stream": True, "tools": tools, "model": "chat"}
        events = events_of(await served.post(PATH, body, headers))
    message, call = events[-1]["response"]["output"]
    assert message["content"][0]["text"] == answer.text == "Let me "
    assert (call["call_id"], call["arguments"]) == (answer.tool_calls[0]["id"], answer.tool_calls[0]["arguments"])
    assert len(up.exchanges) == 1, "both requests share one turn"


async def test_an_audio_endpoint_answers_with_its_transcript(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        whole = (await served.post("/audio/v1/responses", {"input": "How much is the sauna?"})).json()
    assert whole["output"][0]["content"][0]["text"].startswith("The sauna is heated")
