"""How a host is recognised by its request, and the form in which it is answered."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from dialgraph.graph.policy import Policy
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.profiles.choose import known_profiles, recognise
from dialgraph.turn.node import Node
from tests.support.serving import serving
from tests.support.upstream import calls, upstream
from tests.support.wire import read_stream

BYE = {"messages": [{"role": "user", "content": "Thanks, goodbye!"}], "stream": True}
SPOKEN = {"metadata": {"source": "asr"}}
CUT_OFF = {"metadata": {"interrupted": True, "source": "llm"}}
AGORA: dict[str, Any] = {
    "messages": [
        {"role": "assistant", "content": "Hello.", "turn_id": 1, "timestamp": 1, "metadata": {"source": "greeting"}},
        {"role": "user", "content": "Tell me a joke", "turn_id": 2, "timestamp": 2, **SPOKEN},
        {"role": "assistant", "content": "Why did the ", "turn_id": 2, "timestamp": 3, **CUT_OFF},
        {"role": "user", "content": "Thanks, goodbye!", "turn_id": 4, "timestamp": 4, **SPOKEN},
    ],
    "turn_id": 4, "timestamp": 5, "interruptable": True, "context": {"presence": {"a": {"selection": "x"}}},
}  # fmt: skip
ALIBABA = {**BYE, "extendData": {"instanceId": "i", "channelId": "123", "sentenceId": "3", "callerNumber": "138"}}
VAPI = {
    **BYE,
    "call": {"id": "v", "type": "inboundPhoneCall"},
    "customer": {"number": "+49"},
    "metadata": {"plan": "x"},
}
ELEVENLABS = {**BYE, "elevenlabs_extra_body": {"conversation_id": "c"}, "user_id": "u", "parallel_tool_calls": False}


@pytest.mark.parametrize(
    ("body", "headers", "query", "name"),
    [
        (BYE, {}, {}, "openai"),
        (AGORA, {}, {}, "agora"),
        (ALIBABA, {}, {}, "alibaba"),
        (VAPI, {}, {}, "vapi"),
        (ELEVENLABS, {}, {}, "elevenlabs"),
        (BYE, {}, {"custom_session_id": "h"}, "hume"),
        (BYE, {"user-agent": "LiveKit Agents/1.8.9"}, {}, "livekit"),
        # Half of the evidence, or the evidence of two hosts, is not enough.
        ({**BYE, "turn_id": 4}, {}, {}, "openai"),
        ({**BYE, "call": {"id": "x"}}, {}, {}, "openai"),
        ({**BYE, "user_id": "u"}, {}, {}, "openai"),
        ({**ALIBABA, "elevenlabs_extra_body": {}}, {}, {}, "openai"),
        ({**BYE, "extendData": "text", "call": None, "messages": "no list"}, {}, {}, "openai"),
    ],
)
def test_a_host_is_recognised_by_fields_that_only_it_sends(
    body: dict[str, Any], headers: dict[str, str], query: dict[str, str], name: str
) -> None:
    assert recognise(body, headers, query).name == name


def test_there_is_a_profile_for_every_host() -> None:
    assert set(known_profiles()) == {
        "openai", "agora", "alibaba", "vapi", "elevenlabs", "hume", "livekit", "pipecat",
        "deepgram", "dograh", "telnyx", "jambonz",
    }  # fmt: skip


HANGUPS: dict[str, tuple[str, dict[str, object]]] = {
    "openai": ("hangup", {}),
    "agora": ("hangup", {}),
    "alibaba": ("hangup", {}),
    "vapi": ("endCall", {}),
    "elevenlabs": ("end_call", {"reason": "The call is over."}),
    "hume": ("hang_up", {}),
    "livekit": ("end_call", {}),
    "pipecat": ("end_call", {}),
    "deepgram": ("end_call", {}),
    "dograh": ("end_call", {}),
    "telnyx": ("hangup", {}),
    "jambonz": ("hangup", {"reason": "The call is over."}),
}


@pytest.mark.parametrize("name", HANGUPS)
async def test_a_hangup_has_the_form_that_each_host_expects(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path) as served:
        path = "/hangup/chat/completions"
        answer = read_stream((await served.post(path, BYE, {"x-dialgraph-profile": name})).body)
    assert answer.text == "Thank you for calling. Goodbye!"
    tool, arguments = HANGUPS[name]
    assert [(call["name"], orjson.loads(call["arguments"])) for call in answer.tool_calls] == [(tool, arguments)]
    assert answer.finish == "tool_calls"


async def test_a_profile_is_chosen_by_endpoint_then_header_then_evidence(tmp_path: Path) -> None:
    spec = Graph(name="mine", steps=(Step("hangup"),), policy=Policy(profile="vapi"))
    async with serving(tmp_path, (spec, [])) as served:

        async def tool(path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> str:
            return str(read_stream((await served.post(path, body, headers)).body).tool_calls[0]["name"])

        assert await tool("/mine/chat/completions", ELEVENLABS, {"x-dialgraph-profile": "hume"}) == "endCall"
        assert await tool("/hangup/chat/completions", ELEVENLABS, {"x-dialgraph-profile": "Hume"}) == "hang_up"
        assert await tool("/hangup/chat/completions", ELEVENLABS) == "end_call"
        refused = await served.post("/hangup/chat/completions", BYE, {"x-dialgraph-profile": "nobody"})
    assert refused.status == 400 and "elevenlabs" in refused.error["message"]
    assert refused.error["param"] == "x-dialgraph-profile"


async def test_agora_gets_a_stream_unasked_with_control_metadata_first(tmp_path: Path) -> None:
    spec = Graph(
        name="mine",
        steps=(
            Step("control_speech", options={"interruptable": False, "tts_params": {"params": {"rate": 1.1}}}),
            Step("call_model"),
        ),
    )
    async with upstream() as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        reply = await served.post("/mine/chat/completions", AGORA)
        other = await served.ask("hi", "/mine/chat/completions")
    first, *rest = reply.body.split(b"\n\n", 1)
    metadata = orjson.loads(first.removeprefix(b"data: "))
    assert metadata["object"] == "chat.completion.custom_metadata" and metadata["choices"] == []
    assert metadata["metadata"] == {"interruptable": False, "tts_params": {"params": {"rate": 1.1}}}
    answer = read_stream(rest[0])
    assert answer.text == "Hello there." and orjson.loads(rest[0].split(b"\n")[0][6:])["id"] == metadata["id"]
    assert b"custom_metadata" not in other.body


async def test_every_chunk_for_hume_has_its_session_id(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        body = {"messages": BYE["messages"]}
        reply = await served.post("/chat/completions?custom_session_id=s-1", body)
    chunks = [orjson.loads(line[6:]) for line in reply.body.splitlines() if line.startswith(b"data: {")]
    assert chunks and {chunk["system_fingerprint"] for chunk in chunks} == {"s-1"}


async def test_a_model_calls_the_hosts_own_tool_if_the_host_sent_one(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "end_call", "parameters": {"type": "object", "properties": {}}}}
    script = calls("end_call", '{"reason":"done","message":"Bye"}')
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}) as served:
        body = {**ELEVENLABS, "tools": [tool], "stream_options": {"include_usage": True}}
        answer = read_stream((await served.post("/hangup/chat/completions", body)).body)
    assert [one["function"]["name"] for one in up.bodies[0]["tools"]] == ["end_call"]
    assert [(call["name"], orjson.loads(call["arguments"])) for call in answer.tool_calls] == [
        ("end_call", {"reason": "done", "message": "Bye"})
    ]


TRANSFERS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "openai": ({"number": "+491234", "message": "Putting you through."}, {"digits": "12#"}),
    "vapi": ({"destination": "+491234"}, {"dtmf": "12#"}),
    "elevenlabs": (
        {"transfer_number": "+491234", "client_message": "Putting you through."}, {"dtmf_tones": "12#"},
    ),
    "livekit": ({"number": "+491234", "message": "Putting you through."}, {"events": ["1", "2", "#"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFERS)
async def test_transfer_and_digits_have_the_form_that_each_host_expects(tmp_path: Path, name: str) -> None:
    transfer, digits = TRANSFERS[name]
    options = {"number": "+491234", "say": "Putting you through."}
    graphs: list[tuple[Graph, list[Node]]] = [
        (Graph(name="pass", steps=(Step("transfer", options=options),)), []),
        (Graph(name="keys", steps=(Step("send_digits", options={"digits": "12#"}),)), []),
    ]
    async with serving(tmp_path, *graphs) as served:
        headers = {"x-dialgraph-profile": name}
        passed = read_stream((await served.post("/pass/chat/completions", BYE, headers)).body)
        pressed = read_stream((await served.post("/keys/chat/completions", BYE, headers)).body)
    assert passed.text == "Putting you through."
    assert orjson.loads(passed.tool_calls[0]["arguments"]) == transfer
    assert pressed.text == "" and orjson.loads(pressed.tool_calls[0]["arguments"]) == digits


async def test_only_one_action_is_sent_and_it_follows_all_words(tmp_path: Path) -> None:
    steps = (
        Step("hangup", options={"say": "Bye."}),
        Step("transfer", options={"number": "1"}),
        Step("call_model", then=END),
    )
    async with (
        upstream() as up,
        serving(tmp_path, (Graph(name="two", steps=steps), []), models={"main": up.url}) as served,
    ):
        body = (await served.ask("hi", "/two/chat/completions")).body
    answer = read_stream(body)
    assert [call["name"] for call in answer.tool_calls] == ["hangup"] and answer.finish == "tool_calls"
    assert answer.text == "Bye.Hello there." and body.rindex(b'"content"') < body.index(b'"tool_calls"')


async def test_digits_from_the_model_are_reduced_to_phone_keys(tmp_path: Path) -> None:
    steps = (Step("call_model", then={"answered": END, "press": "send_digits"}), Step("send_digits"))
    script = calls("send_digits", '{"digits":"1; rm 2 #"}')
    async with upstream(script, calls("send_digits")) as up:
        async with serving(tmp_path, (Graph(name="menu", steps=steps), []), models={"main": up.url}) as served:
            pressed = read_stream((await served.ask("press", "/menu/chat/completions")).body)
            nothing = await served.ask("press", "/menu/chat/completions")
    assert orjson.loads(pressed.tool_calls[0]["arguments"]) == {"digits": "12#"}
    assert nothing.status == 502 and nothing.error["code"] == "upstream_malformed"


async def test_the_alibaba_sample_is_answered_with_one_hangup(tmp_path: Path) -> None:
    """Send the sample request. The sample's own answer hung up in each of 97 chunks, with broken arguments."""
    body = {
        "messages": [{"role": "user", "content": "再见"}], "model": "hangup", "stream": True,
        "extendData": {
            "instanceId": "68e0", "channelId": "123", "sentenceId": "3", "callerNumber": "13800000001",
            "calleeNumber": "13800000002", "userData": '{"aaaa":"bbbb"}',
        },
    }  # fmt: skip
    async with serving(tmp_path) as served:
        reply = await served.post("/v1/chat/completions", body)
    answer = read_stream(reply.body)
    assert reply.body.count(b'"tool_calls":[') == 1 and answer.text == "感谢您的来电，再见！"
    assert [(call["name"], call["arguments"]) for call in answer.tool_calls] == [("hangup", "{}")]
