"""Endpoints that answer in sound, over a socket: the sound matches the words, is in time and stops immediately."""

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dialgraph.graph.policy import Policy
from dialgraph.graph.spec import Graph, Step
from dialgraph.project import ROOT
from dialgraph.speech.tone import tone
from tests.support.serving import Served, serving
from tests.support.sound import (
    cepstra,
    debian_says,
    distance,
    longest_gap,
    loudness,
    read_wav,
    samples_of,
    steadiness,
    voiced_share,
)
from tests.support.upstream import Action, says, upstream
from tests.support.wire import read_stream

AUDIO, CHAT, RAG = "/audio/chat/completions", "/chat/completions", "/rag/chat/completions"
RATE = 16_000
SENTENCES = {
    "en-us": [
        "The sauna is heated from four in the afternoon.",
        "Breakfast is served in the winter garden.",
        "You can bring your dog for twelve euros a night.",
        "The last train to the airport leaves at midnight.",
        "Please tell me the number of your room.",
        "Parking is free behind the building.",
        "I am sorry, the swimming pool is closed today.",
        "Would you like me to book a table for two?",
        "The password of the network is on your key card.",
        "Thank you for calling, and have a pleasant evening.",
    ],
    "cmn": [
        "桑拿下午四点开始供暖。",
        "早餐在一楼的花园餐厅供应。",
        "您可以带狗，每晚十二欧元。",
        "去机场的末班车半夜出发。",
        "请告诉我您的房间号码。",
        "大楼后面可以免费停车。",
        "很抱歉，游泳池今天不开放。",
        "需要我为您预订两个人的座位吗？",
        "无线网络的密码写在房卡上。",
        "感谢您的来电，祝您晚上愉快。",
    ],
}


# Debian's espeak-ng 1.51 reads Chinese characters as the English names of their Pinyin. It reads Pinyin correctly.
PINYIN = [
    "sang1na2 xia4wu3 si4 dian3 kai1shi3 gong1nuan3",
    "zao3can1 zai4 yi1 lou2 de5 hua1yuan2 can1ting1 gong1ying4",
    "nin2 ke3yi3 dai4 gou3, mei3 wan3 shi2er4 ou1yuan2",
    "qu4 ji1chang3 de5 mo4ban1che1 ban4ye4 chu1fa1",
    "qing3 gao4su5 wo3 nin2 de5 fang2jian1 hao4ma3",
    "da4lou2 hou4mian4 ke3yi3 mian3fei4 ting2che1",
    "hen3 bao4qian4, you2yong3chi2 jin1tian1 bu4 kai1fang4",
    "xu1yao4 wo3 wei4 nin2 yu4ding4 liang3 ge4 ren2 de5 zuo4wei4 ma5",
    "wu2xian4 wang3luo4 de5 mi4ma3 xie3 zai4 fang2ka3 shang4",
    "gan3xie4 nin2 de5 lai2dian4, zhu4 nin2 wan3shang4 yu2kuai4",
]
REFERENCES = {"en-us": ("en-us", SENTENCES["en-us"]), "cmn": ("cmn-latn-pinyin", PINYIN)}


@pytest.fixture
async def saying(tmp_path: Path) -> AsyncIterator[Served]:
    """Serve a model that repeats the last message of the caller."""
    async with upstream() as up:
        up.choose = lambda body: says(str(body["messages"][-1]["content"]))
        async with serving(tmp_path, models={"main": up.url}) as served:
            yield served


SAY = Graph(name="say", steps=(Step("emit_audio", options={"real_time": False}), Step("call_model")))


async def heard(served: Served, text: str, path: str = AUDIO, **fields: Any) -> tuple[str, int, bytes]:
    """Return the transcript, the sample rate and the PCM of a reply that is not streamed."""
    body = {"messages": [{"role": "user", "content": text}], "audio": {"format": "wav"}, **fields}
    reply = await served.post(path, body)
    assert reply.status == 200, reply.body
    audio = reply.json()["choices"][0]["message"]["audio"]
    return audio["transcript"], *read_wav(base64.b64decode(audio["data"]))


@pytest.mark.parametrize(
    ("question", "held"), [("How much is the sauna?", "sauna"), ("桑拿多少钱？", "桑拿")], ids=["en", "zh"]
)
async def test_a_wav_sounds_like_speech_and_is_as_long_as_its_words(tmp_path: Path, question: str, held: str) -> None:
    async with serving(tmp_path) as served:
        transcript, rate, pcm = await heard(served, question)
    assert held in transcript and rate == RATE
    sound = samples_of(pcm)
    seconds = len(sound) / rate
    syllables = len(transcript) if held == "桑拿" else len(transcript) / 3
    assert 0.12 * syllables < seconds < 0.45 * syllables
    assert 0.05 < loudness(sound, rate).max() < 0.6 and 0.5 < voiced_share(sound, rate) < 0.97
    assert longest_gap(sound, rate) < 1.0
    assert steadiness(sound, rate) < 0.3, "the sound is a beep"
    assert steadiness(samples_of(tone(seconds, rate)), rate) > 0.9, "the measure must recognise a beep"


@pytest.mark.parametrize(("readme", "held"), [("README.md", "sauna"), ("README.zh-CN.md", "桑拿")])
async def test_the_command_in_the_readme_saves_an_audible_answer(tmp_path: Path, readme: str, held: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    [command] = re.findall(r"^curl -s .*? > answer.wav$", text, re.DOTALL | re.MULTILINE)
    async with serving(tmp_path) as served:
        here = command.replace("127.0.0.1:8000", f"127.0.0.1:{served.port}")
        process = await asyncio.create_subprocess_shell(here, cwd=tmp_path)
        assert await process.wait() == 0
        transcript, rate, pcm = await heard(served, re.findall(r'"content": "(.*?)"', command)[0])
    saved_rate, saved = read_wav((tmp_path / "answer.wav").read_bytes())
    assert held in transcript and saved_rate == rate and len(saved) == pytest.approx(len(pcm), rel=0.02)
    assert distance(cepstra(samples_of(saved), rate), cepstra(samples_of(pcm), rate)) < 5


@pytest.mark.parametrize("voice", SENTENCES)
async def test_the_sound_matches_the_right_one_of_ten_sentences(saying: Served, tmp_path: Path, voice: str) -> None:
    """Compare the sound with the sentences of Debian's espeak-ng."""
    references = [cepstra(samples_of(pcm), rate) for rate, pcm in _debian(voice, tmp_path)]
    nearest: list[float] = []
    for at, sentence in enumerate(SENTENCES[voice]):
        transcript, rate, pcm = await heard(saying, sentence)
        assert transcript == sentence
        found = cepstra(samples_of(pcm), rate)
        distances = [distance(found, reference) for reference in references]
        nearest.append(min(distances))
        assert int(np.argmin(distances)) == at and nearest[-1] < 0.7 * sorted(distances)[1]
    beep = cepstra(samples_of(tone(2.5, RATE)), RATE)
    assert min(distance(beep, reference) for reference in references) > 1.5 * max(nearest), (
        "a beep must resemble no sentence"
    )


def _debian(voice: str, folder: Path) -> Iterator[tuple[int, bytes]]:
    name, sentences = REFERENCES[voice]
    for sentence in sentences:
        yield debian_says(sentence, name, folder)


async def test_a_streamed_answer_sends_transcripts_and_frames_in_order(saying: Served) -> None:
    reply = await saying.ask("One is here. Two are there! 三个人。", AUDIO)
    answer = read_stream(reply.body)
    assert answer.transcript == "One is here. Two are there! 三个人。" and not answer.text
    assert len(answer.audio_ids) == 1 and {len(frame) for frame in answer.audio} == {1280}
    kinds = "".join(_kind(chunk) for chunk in answer.chunks)
    assert kinds[0] == "r" and kinds.count("t") == 3 and kinds[-1] == "f"
    for sentence in kinds[2:-1].split("t"):
        assert set(sentence) <= {"w", "d"} and sentence.startswith("w") and sentence.count("d") > 10
    words = [word for chunk in answer.chunks for word in _audio(chunk).get("words", ())]
    assert [word["index"] for word in words] == list(range(len(words)))
    assert [word["text"] for word in words][:6] == ["One", "is", "here", "Two", "are", "there"]
    assert all(word["duration"] == word["end_ts"] - word["start_ts"] >= 0 for word in words)
    # The times of words count from the beginning of the whole sound: the last word is in the last frames.
    assert words[-1]["end_ts"] <= len(answer.audio) * 40
    assert words[-1]["start_ts"] > len(answer.audio) * 40 * 0.6


def _audio(chunk: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = chunk["choices"][0]["delta"].get("audio", {})
    return found


def _kind(chunk: dict[str, Any]) -> str:
    if chunk["choices"][0]["finish_reason"]:
        return "f"
    audio = _audio(chunk)
    return {"transcript": "t", "data": "d", "words": "w"}[next(key for key in audio if key != "id")] if audio else "r"


async def test_sound_is_sent_only_if_it_is_asked_for(saying: Served) -> None:
    async def sounds(path: str, **fields: Any) -> bool:
        answer = read_stream((await saying.ask("Yes.", path, **fields)).body)
        assert answer.transcript + answer.text == "Yes." and bool(answer.audio) == bool(answer.transcript)
        return bool(answer.audio)

    absences: list[dict[str, Any]] = [{}, {"modalities": None}, {"modalities": []}]
    for absent in absences:
        assert await sounds(AUDIO, **absent)
        assert not await sounds(CHAT, **absent)
    for path in (AUDIO, CHAT, RAG, "/v1/chat/completions"):
        assert await sounds(path, modalities=["audio"])
        assert await sounds(path, modalities=["text", "audio"])
        assert not await sounds(path, modalities=["text"])


async def test_an_endpoint_can_leave_sound_to_its_model(tmp_path: Path) -> None:
    spec = Graph(name="theirs", steps=(Step("call_model"),), policy=Policy(voice=""))
    script: list[Action] = [("delta", {"audio": {"id": "a", "transcript": "Yes.", "data": "AAAA"}}), *says()]
    async with upstream(script) as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        fields = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
        answer = read_stream((await served.ask("hi", "/theirs/chat/completions", **fields)).body)
    assert answer.transcript == "Yes." and up.bodies[0]["modalities"] == ["text", "audio"]


async def test_the_voice_and_the_format_of_the_request_are_used(saying: Served) -> None:
    found = []
    for voice in ("alloy", "alloy", "onyx", "nova"):
        _, rate, pcm = await heard(saying, "Good morning.", audio={"voice": voice, "format": "wav"})
        found.append(cepstra(samples_of(pcm), rate))
    one, again, low, high = found
    assert min(distance(one, low), distance(one, high), distance(low, high)) > 3 * distance(one, again)
    streamed = read_stream((await saying.ask("Good morning.", AUDIO, audio={"format": "wav"})).body)
    assert streamed.audio[0].startswith(b"RIFF") and streamed.audio[0][44:] and len(streamed.audio[0]) == 1324
    assert {len(frame) for frame in streamed.audio[1:]} == {1280}
    # Agora always gets PCM, even if it asks for another format.
    raw = read_stream((await saying.post(AUDIO, _agora({"format": "wav"}))).body)
    assert {len(frame) for frame in raw.audio} == {1280} and not raw.audio[0].startswith(b"RIFF")


def _agora(audio: dict[str, str]) -> dict[str, Any]:
    message = {"role": "user", "content": "Good morning.", "turn_id": 1, "timestamp": 1}
    return {
        "messages": [message],
        "stream": True,
        "modalities": ["audio"],
        "audio": audio,
        "turn_id": 1,
        "timestamp": 1,
    }


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        ({"format": "mp3"}, "Unknown sound format 'mp3'. Accepted: pcm16, pcm, wav."),
        ({"voice": "nobody"}, "The voice 'main' has no 'nobody'. Accepted: alloy, ash,"),
        ({"voice": "x" * 129}, "`audio.voice` must be a name of at most 128 characters."),
        ({"voice": 7}, "`audio.voice` must be a name of at most 128 characters."),
        ({"format": ["wav"]}, "Unknown sound format \"['wav']\"."),
        ("loud", "`audio` must be an object."),
    ],
)
async def test_an_unknown_voice_or_format_is_refused_with_400(saying: Served, audio: object, said: str) -> None:
    reply = await saying.ask("Hi.", AUDIO, audio=audio)
    assert reply.status == 400 and reply.error["message"].startswith(said)
    assert reply.error["type"] == "invalid_request_error"


async def test_a_last_message_of_the_assistant_is_spoken_unchanged(tmp_path: Path) -> None:
    """Speak Agora's broadcasts: greetings, announcements, and the texts of its speak API."""
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        for path in (AUDIO, CHAT):
            body = {
                "messages": [
                    {"role": "user", "content": "[greeting]"},
                    {"role": "assistant", "content": "Welcome to the Lake Hotel. How can I help you?"},
                ],
                "stream": True,
                "modalities": ["audio"],
            }
            answer = read_stream((await served.post(path, body)).body)
            assert answer.transcript == "Welcome to the Lake Hotel. How can I help you?" and answer.audio
        assert not up.bodies
        # If the client wants text, the model continues the conversation.
        text = read_stream((await served.post(CHAT, {**body, "modalities": ["text"]})).body)
        assert text.text == "Hello there." and len(up.bodies) == 1


async def test_the_first_sentence_is_sent_while_the_model_continues(tmp_path: Path) -> None:
    script: list[Action] = [("chunk", "The first one. "), ("chunk", "The second"), ("hang",)]
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}) as served:
        connection = await served.connect()
        await connection.send(served.request(AUDIO, {"messages": [{"role": "user", "content": "x"}], "stream": True}))
        await connection.head()
        got = b""
        async with asyncio.timeout(3):
            while got.count(b'"data":') < 20:
                got += await connection.chunk()
        assert b"The first one. " in got and b"second" not in got
        assert up.exchanges[0].left is None
        connection.reset()


async def test_a_single_sentence_is_sent_during_a_pause_of_the_model(tmp_path: Path) -> None:
    """Use a model that says "One moment." and then thinks: only the pause shows that the sentence has ended."""
    script: list[Action] = [
        ("chunk", "One moment."),
        ("sleep", 5.0),
        ("chunk", " Done."),
        ("finish", "stop"),
        ("done",),
    ]
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}) as served:
        connection = await served.connect()
        await connection.send(served.request(AUDIO, {"messages": [{"role": "user", "content": "x"}], "stream": True}))
        await connection.head()
        began = time.monotonic()
        got = b""
        while b'"data":' not in got:
            got += await connection.chunk()
        assert time.monotonic() - began < 2.5
        connection.reset()


async def test_an_acknowledgement_is_sent_before_the_answer_begins(tmp_path: Path) -> None:
    steps = (
        Step("emit_audio"),
        Step("acknowledge", options={"say": ["One moment."], "after_ms": 50}),
        Step("call_model"),
    )
    heard = asyncio.Event()
    script: list[Action] = [("headers",), ("wait", heard), *says("It is open.")]
    async with upstream(script) as up:
        async with serving(tmp_path, (Graph(name="g", steps=steps), []), models={"main": up.url}) as served:
            connection = await served.connect()
            body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
            await connection.send(served.request("/g/chat/completions", body))
            await connection.head()
            got = b""
            while b'"data":' not in got:
                got += await connection.chunk()
            assert b"One moment. " in got
            heard.set()
            while piece := await connection.chunk():
                got += piece
    assert read_stream(got).transcript == "One moment. It is open."


async def test_an_acknowledgement_does_not_interrupt_a_sentence(tmp_path: Path) -> None:
    """Let the model begin before anything is heard: the phrase comes first, and the sentence stays whole."""
    acknowledge = Step("acknowledge", options={"say": ["One moment."], "after_ms": 200})
    steps = (Step("emit_audio", options={"real_time": False}), acknowledge, Step("call_model"))
    script: list[Action] = [("chunk", "The sauna"), ("sleep", 0.6), *says(" is open.")]
    async with upstream(script, says("The sauna is open. ", "Come in.")) as up:
        async with serving(tmp_path, (Graph(name="g", steps=steps), []), models={"main": up.url}) as served:
            slow = read_stream((await served.ask("x", "/g/chat/completions")).body)
            quick = read_stream((await served.ask("x", "/g/chat/completions")).body)
    assert slow.transcript == "One moment. The sauna is open."
    assert quick.transcript == "The sauna is open. Come in."


async def test_a_hangup_is_sent_after_the_goodbye_has_been_heard(tmp_path: Path) -> None:
    spec = Graph(name="bye", steps=(Step("emit_audio"), Step("hangup", options={"say": "Goodbye, and thank you."})))
    async with serving(tmp_path, (spec, [])) as served:
        connection = await served.connect()
        body = {"messages": [{"role": "user", "content": "bye"}], "stream": True}
        await connection.send(served.request("/bye/chat/completions", body))
        await connection.head()
        got, first, frames, told = b"", 0.0, 0, 0.0
        while piece := await connection.chunk():
            got += piece
            frames += piece.count(b'"data":')
            first = first or (time.monotonic() if frames else 0.0)
            told = told or (time.monotonic() if b'"tool_calls":' in piece else 0.0)
    answer = read_stream(got)
    assert answer.transcript == "Goodbye, and thank you." and answer.tool_calls[0]["name"] == "hangup"
    assert told - first >= frames * 0.04 - 0.05
