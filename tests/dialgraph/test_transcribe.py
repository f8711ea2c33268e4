"""The caller's speech as text, for models that take only text."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.spec import Graph, Step
from tests.support.serving import serving
from tests.support.upstream import Action, upstream
from tests.support.wire import read_stream

CHAT = "/chat/completions"


def _speech(data: bytes = b"RIFF....", form: str = "wav") -> dict[str, Any]:
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": form}}
    return {"role": "user", "content": [part]}


LISTEN = Graph(
    name="listen", steps=(Step("transcribe"), Step("retrieve"), Step("rewrite_messages"), Step("call_model"))
)


async def test_speech_becomes_text_for_a_model_that_takes_only_text(tmp_path: Path) -> None:
    words = [("status", 200, {"content-type": "application/json"}, json.dumps({"text": " Is there a gym? "}).encode())]
    async with (
        upstream(default=words) as ears,
        serving(
            tmp_path, (LISTEN, []), transcribers={"main": {"url": ears.url, "model": "whisper", "language": "en"}}
        ) as served,
    ):
        body = {"messages": [_speech()], "stream": True}
        answer = read_stream((await served.post("/listen/chat/completions", body)).body)
        assert "gym" in answer.text.lower()
        form = ears.exchanges[0].body["form"]
        assert ears.exchanges[0].path == "/v1/audio/transcriptions" and b"RIFF...." in form
        assert b'name="model"\r\n\r\nwhisper' in form and b'name="language"\r\n\r\nen' in form
        # A request without speech asks no transcriber.
        assert read_stream((await served.ask("Is there a gym?", "/listen/chat/completions")).body).text
        assert len(ears.exchanges) == 1


async def test_only_the_last_pieces_of_a_long_call_are_transcribed(tmp_path: Path) -> None:
    def words(body: dict[str, Any]) -> list[Action]:
        number = body["form"].split(b"piece ")[1][:1].decode()
        return [("status", 200, {"content-type": "application/json"}, json.dumps({"text": f"word {number}"}).encode())]

    async with upstream() as ears, upstream() as up:
        ears.choose = words
        async with serving(tmp_path, (LISTEN, []), models={"main": up.url}, transcribers={"main": ears.url}) as served:
            talk = [
                message
                for at in range(6)
                for message in (_speech(b"piece %d" % at), {"role": "assistant", "content": "ok"})
            ]
            await served.post("/listen/chat/completions", {"messages": talk[:-1], "stream": True})
    said = [one["content"] for one in up.bodies[0]["messages"] if one["role"] == "user"]
    assert said == ["(spoken earlier)", "(spoken earlier)", "word 2", "word 3", "word 4", "word 5"]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"data": "###", "format": "wav"}, "`input_audio.data` must be the sound in base64."),
        ({"format": "wav"}, "`input_audio.data` must be the sound in base64."),
        ({"data": "AAAA"}, "`input_audio.format` must be a sound format"),
        ("x", "`input_audio.data` must be the sound in base64."),
    ],
)
async def test_invalid_speech_is_refused_with_400(tmp_path: Path, part: object, said: str) -> None:
    async with upstream() as ears, serving(tmp_path, (LISTEN, []), transcribers={"main": ears.url}) as served:
        message = {"role": "user", "content": [{"type": "input_audio", "input_audio": part}]}
        reply = await served.post("/listen/chat/completions", {"messages": [message], "stream": True})
    assert reply.status == 400 and reply.error["message"].startswith(said) and not ears.exchanges


async def test_speech_is_passed_on_to_a_model_that_accepts_it(tmp_path: Path) -> None:
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        await served.post(CHAT, {"messages": [_speech()], "stream": True})
    assert up.bodies[0]["messages"] == [_speech()]


async def test_a_transcriber_that_fails_is_an_error(tmp_path: Path) -> None:
    for status, body in ((500, b""), (200, b"[1]"), (200, b"{}"), (200, b"no JSON")):
        async with upstream(default=[("status", status, {}, body)]) as ears:
            async with serving(tmp_path, (LISTEN, []), transcribers={"main": ears.url}) as served:
                reply = await served.post("/listen/chat/completions", {"messages": [_speech()], "stream": True})
        assert reply.status == 502 and reply.error["code"] in ("voice_failed", "voice_malformed")
