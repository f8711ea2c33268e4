"""The faults of the sample servers that people copy today. Each test shows that this server does not have the fault."""

import ast
import asyncio
import json
import struct
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dialgraph.project import ROOT
from dialgraph.shadowing import PACKAGES
from dialgraph.turn.upstream_messages import upstream_messages
from tests.support.serving import Served, serving
from tests.support.upstream import Action, calls, delta, event, says, upstream
from tests.support.wire import Answer, read_stream

CHAT, RAG, AUDIO, HANGUP = (f"{name}/chat/completions" for name in ("", "/rag", "/audio", "/hangup"))
KEY = "a-key-of-32-characters-or-so-0001"


async def hung_up(tmp_path: Path) -> Answer:
    """Return the answer of the hangup endpoint to a goodbye."""
    async with serving(tmp_path) as served:
        return read_stream((await served.ask("谢谢，再见", HANGUP)).body)


async def answered(served: Served, path: str = CHAT, question: Any = "hi", **fields: Any) -> Answer:
    """Return the streamed answer to a question."""
    return read_stream((await served.ask(question, path, **fields)).body)


async def test_hangup_arguments_are_json(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert json.loads((await hung_up(tmp_path)).tool_calls[0]["arguments"]) == {}


async def test_hangup_is_sent_once_after_the_farewell(tmp_path: Path) -> None:
    answer = await hung_up(tmp_path)
    with_call = [at for at, chunk in enumerate(answer.chunks) if chunk["choices"][0]["delta"].get("tool_calls")]
    with_text = [at for at, chunk in enumerate(answer.chunks) if chunk["choices"][0]["delta"].get("content")]
    assert len(with_call) == 1 and max(with_text) < with_call[0]
    assert answer.tool_calls[0]["name"] == "hangup"


async def test_a_tool_call_has_an_index_type_and_id(tmp_path: Path) -> None:
    answer = await hung_up(tmp_path)
    (call,) = [call for chunk in answer.chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert call["index"] == 0 and call["type"] == "function" and call["id"]


async def test_finish_reason_role_id_and_created_are_right(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        one, other = [read_stream((await served.ask("再见", HANGUP)).body) for _ in range(2)]
    assert one.finish == "tool_calls"
    assert one.chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "tool_calls"}
    assert one.chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert len({chunk["created"] for chunk in one.chunks}) == 1
    assert one.chunks[0]["id"] != other.chunks[0]["id"]


async def test_text_and_a_tool_call_never_share_a_delta(tmp_path: Path) -> None:
    mixed = {"content": "Bye.", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}
    async with upstream([("delta", mixed), ("finish", "tool_calls"), ("done",)]) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            answer = await answered(served)
    assert (answer.text, [call["name"] for call in answer.tool_calls]) == ("Bye.", ["f"])


async def slow_rag(tmp_path: Path, pause: float) -> Answer:
    """Return the answer of the rag endpoint when its model first waits `pause` seconds."""
    async with upstream([("sleep", pause), *says("Hello.")]) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            return await answered(served, RAG)


async def test_fillers_are_chunks_like_any_other(tmp_path: Path) -> None:
    answer = await slow_rag(tmp_path, 0.5)
    assert answer.text.endswith("Hello.") and len(answer.text) > len("Hello.")
    assert len({(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in answer.chunks}) == 1


async def test_fillers_end_in_a_space_and_come_only_when_needed(tmp_path: Path) -> None:
    assert (await slow_rag(tmp_path, 0.5)).text.removesuffix("Hello.").endswith(". ")
    assert (await slow_rag(tmp_path / "fast", 0.0)).text == "Hello."


async def test_audio_has_one_id_and_ends_with_a_finish_reason(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        answer = await answered(served, AUDIO, "How much is the sauna?")
    assert answer.finish == "stop" and len({chunk["id"] for chunk in answer.chunks}) == 1
    assert len(answer.audio_ids) == 1


async def test_events_have_no_name_and_are_sent_immediately(tmp_path: Path) -> None:
    heard = asyncio.Event()
    script: list[Action] = [("chunk", "first "), ("wait", heard), *says("second")]
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}) as served:
        connection = await served.connect()
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        await connection.send(served.request(CHAT, body))
        await connection.head()
        first = await connection.chunk()
        heard.set()
        assert b"first " in first and b"event:" not in first and first.startswith(b"data: ")


async def test_a_bad_request_is_not_a_server_error(tmp_path: Path) -> None:
    async with serving(tmp_path, require_stream=True) as served:
        for path in (CHAT, RAG, AUDIO):
            reply = await served.post(path, {"messages": [{"role": "user", "content": "x"}], "stream": False})
            assert reply.status == 400 and "Traceback" not in reply.body.decode() and ".py" not in reply.body.decode()


async def test_legal_openai_requests_are_accepted(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    legal: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]},
        {
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
            ]
        },
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": {"b": 1}}}}},
        {"tools": [tool]},
        {"messages": [{"role": "developer", "content": "x"}, {"role": "user", "content": "x"}]},
    ]
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        for fields in legal:
            body = {"messages": [{"role": "user", "content": "x"}], "stream": True, **fields}
            assert (await served.post(CHAT, body)).status == 200, fields
        assert (await served.post(CHAT, {"messages": [{"role": "banana", "content": "x"}]})).status == 400
    assert len(up.exchanges) == len(legal)


async def test_a_key_that_the_upstream_refuses_is_an_error(tmp_path: Path) -> None:
    refusal: list[Action] = [("status", 401, {}, b"{}")]
    async with upstream(refusal, refusal) as up, serving(tmp_path, models={"main": up.url}) as served:
        assert (await served.ask("hi", CHAT)).status == 502
        assert (await served.ask("hi", RAG)).status == 502


async def test_a_refused_request_costs_nothing_upstream(tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}, require_stream=True) as served:
        await served.post(CHAT, {"messages": [{"role": "user", "content": "x"}], "stream": False})
    assert not up.exchanges


@pytest.mark.parametrize("header", ["KEY", f"Basic {KEY}", "Bearer", ""])
async def test_a_malformed_authorization_header_is_401(tmp_path: Path, header: str) -> None:
    async with serving(tmp_path, api_keys={"a": KEY}) as served:
        reply = await served.post(CHAT, {"messages": []}, {"authorization": header})
    assert reply.status == 401


async def test_a_missing_model_and_null_content_are_accepted(tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        assert (await answered(served, question=None)).text == "Hello there."


async def test_a_request_without_a_stream_field_is_answered_whole(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        reply = await served.post(CHAT, {"messages": [{"role": "user", "content": "x"}]})
    assert reply.status == 200 and reply.json()["object"] == "chat.completion"


async def test_large_bodies_are_accepted_and_errors_are_json(tmp_path: Path) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 400_000, "format": "wav"}}
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        assert (await served.ask([sound])).status == 200
        broken = await served.post(CHAT, b"{broken")
    assert (broken.status, broken.headers["content-type"]) == (400, "application/json")
    assert b"<html" not in broken.body.lower()


async def test_no_parameter_and_no_part_of_a_message_is_lost(tmp_path: Path) -> None:
    parameters = {"modalities": ["text"], "temperature": 0.1, "max_tokens": 5, "parallel_tool_calls": True}
    parameters |= {"tools": [{"type": "function", "function": {"name": "f"}}], "audio": {"v": 1}}
    parameters["stream_options"] = {"include_usage": True}
    messages = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "abcdefg01", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "abcdefg01", "content": "1", "name": "f"},
    ]  # fmt: skip
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        await served.post(CHAT, {"messages": messages, "stream": True, **parameters})
    assert up.bodies[0] == {"messages": messages, "stream": True, **parameters}


async def test_null_parameters_are_not_sent_upstream(tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        await served.ask(tools=None, audio=None, response_format=None, stream_options=None, tool_choice=None)
    assert None not in up.bodies[0].values() and set(up.bodies[0]) == {
        "messages", "stream", "stream_options",
    }  # fmt: skip


async def test_private_fields_of_hosts_are_not_sent_upstream(tmp_path: Path) -> None:
    message = {"role": "user", "content": "x", "turn_id": 1, "timestamp": 2, "metadata": {}, "message_id": 3}
    body = {"messages": [message], "stream": True, "turn_id": 1, "timestamp": 2, "context": {}, "interruptable": True}
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        for path in (CHAT, RAG, AUDIO, HANGUP):
            await served.post(path, {**body, "modalities": ["text"]})
    for asked in up.bodies:
        assert asked["messages"][-1] == {"role": "user", "content": "x"}
        assert not {"turn_id", "timestamp", "context", "interruptable"} & asked.keys()


async def test_only_relevant_passages_reach_the_model(tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        await answered(served, RAG, "Can I bring my dog?")
        await answered(served, RAG, "Quantum chromodynamics?")
    assert "15 euros a night" in json.dumps(up.bodies[0]["messages"])
    rule, question = up.bodies[1]["messages"]
    assert question == {"role": "user", "content": "Quantum chromodynamics?"} and "<passage" not in rule["content"]


async def test_one_call_never_reaches_the_prompt_of_another(tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        await answered(served, CHAT, "my pin is 1234")
        await answered(served, CHAT, "what do you know of me?")
    assert "1234" not in json.dumps(up.bodies[1])


async def test_the_history_is_sent_once_with_one_system_message_first(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "dogs?"},
        {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Can I bring my dog?"},
    ]  # fmt: skip
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        await served.post(RAG, {"messages": messages, "stream": True})
    roles = [message["role"] for message in up.bodies[0]["messages"]]
    assert roles == ["system", "user", "assistant", "user"], "many providers accept only one system message"
    persona, hosts, found = up.bodies[0]["messages"][0]["content"].split("\n\n", 2)
    assert persona.startswith("You are a friendly assistant") and hosts == "Be kind." and "<passage" in found


async def test_usage_does_not_overwrite_the_finish_reason(tmp_path: Path) -> None:
    usage: Action = ("usage", {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
    async with (
        upstream([*calls("f")[:-1], usage, ("done",)]) as up,
        serving(tmp_path, models={"main": up.url}) as served,
    ):
        answer = await answered(served, stream_options={"include_usage": True})
    assert answer.finish == "tool_calls" and answer.tool_calls and answer.usage is not None


def test_no_code_calls_eval_or_exec() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            called = {
                element.func.id
                for element in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
                if isinstance(element, ast.Call) and isinstance(element.func, ast.Name)
            }
            assert not called & {"eval", "exec", "compile", "__import__"}, file


async def test_a_client_that_leaves_stops_the_upstream(tmp_path: Path) -> None:
    flowing: list[Action] = [action for _ in range(300) for action in (("chunk", "word "), ("sleep", 0.01))]
    async with upstream(flowing) as up, serving(tmp_path, models={"main": up.url}) as served:
        connection = await served.connect()
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        await connection.send(served.request(CHAT, body))
        await connection.head()
        await connection.chunk()
        connection.reset()
        await up.until(lambda: up.exchanges[0].left is not None)
        assert up.exchanges[0].sent < 50


async def test_audio_is_sent_at_the_speed_of_playback(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        connection = await served.connect()
        body = {"messages": [{"role": "user", "content": "How much is the sauna?"}], "stream": True}
        await connection.send(served.request(AUDIO, body))
        await connection.head()
        times: list[float] = []
        while piece := await connection.chunk():
            times += [time.monotonic()] * piece.count(b'"data":"')
    seconds = len(times) * 0.04
    assert seconds > 2
    assert 0.7 * seconds <= times[-1] - times[0] <= seconds + 0.2


async def test_the_tone_voice_makes_a_smooth_sound(tmp_path: Path) -> None:
    async with serving(tmp_path, voices={"main": "tone:440"}) as served:
        answer = await answered(served, AUDIO, "Is there a gym?")
    pcm = b"".join(answer.audio)
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    assert max(samples) > 1000
    assert max(abs(one - other) for one, other in pairwise(samples)) < 1200


async def test_files_are_found_from_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as served:
        monkeypatch.chdir("/")
        assert (await answered(served, RAG, "Can I bring my dog?")).text.startswith("Dogs and cats")


async def test_words_before_an_error_are_not_lost(tmp_path: Path) -> None:
    script: list[Action] = [("raw", b"".join(delta({"content": f"{at} "}) for at in range(50)) + event({"error": "x"}))]
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}) as served:
        answer = await answered(served)
    assert answer.text == "".join(f"{at} " for at in range(50))
    assert answer.error is not None


def test_pictures_in_the_form_of_the_samples_are_accepted() -> None:
    (message,) = upstream_messages([{"role": "user", "content": [{"type": "image", "image_url": "https://x"}]}])
    assert message["content"] == [{"type": "image_url", "image_url": {"url": "https://x"}}]


async def test_the_requests_of_the_samples_are_answered(tmp_path: Path) -> None:
    """Send the unchanged requests of the Agora samples (lists of texts, vendor fields) and of Alibaba's page."""
    agora = {
        "context": {"any": "object"}, "model": "gpt-4o-mini", "stream": True, "modalities": ["text"],
        "messages": [
            {"role": "system", "content": ["You are kind."]},
            {"role": "assistant", "content": "How can I help?", "turn_id": 1, "metadata": {"source": "greeting"}},
            {"role": "assistant", "content": "Why did the ", "turn_id": 2, "metadata": {"interrupted": True}},
            {"role": "user", "content": [{"type": "text", "text": "How much is the sauna?"}]},
        ],
        "turn_id": 4, "timestamp": 1678905236, "interruptable": True, "tool_choice": "auto",
    }  # fmt: skip
    alibaba = {
        "messages": [{"role": "user", "content": "桑拿多少钱？"}], "model": "abc", "stream": True,
        "extendData": {"instanceId": "68e0", "channelId": "123", "sentenceId": "3", "userData": '{"aaaa":"bbbb"}'},
    }  # fmt: skip
    async with serving(tmp_path) as served:
        english = read_stream((await served.post(RAG, agora)).body)
        chinese = read_stream((await served.post(f"{RAG}?task_id=t&room_id=r", alibaba)).body)
        await asyncio.sleep(0)
    assert "8 euros" in english.text and "八欧元" in chinese.text
