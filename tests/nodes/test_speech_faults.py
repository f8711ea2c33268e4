"""Many listeners, barge-ins, and voices that fail: no gap, no word after the end, nothing left running."""

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.compile import compile_graph
from dialgraph.graph.errors import GraphError
from dialgraph.graph.policy import Policy
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.speech.port import Capabilities, Sound
from server.app import create_app, prepare
from server.settings import Settings
from tests.dialgraph.test_voices import children, until
from tests.support.server_process import Server
from tests.support.serving import Connection, Served, add_graphs, serving
from tests.support.upstream import Action, calls, says, upstream
from tests.support.wire import read_stream


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Check that a test leaves no process of the voice running."""
    before = {child.pid for child in children()}
    yield
    assert not {child.pid for child in children()} - before


AUDIO = "/audio/chat/completions"
STORY = [f"This is sentence number {at} of a story that goes on and on. " for at in range(200)]


async def hearing(served: Served) -> Connection:
    """Connect a caller and return the connection after the first frame of sound."""
    connection = await served.connect()
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    await connection.send(served.request(AUDIO, body))
    await connection.head()
    while b'"data":' not in await connection.chunk():
        pass
    return connection


async def test_fifty_streams_are_paced_without_a_gap(tmp_path: Path) -> None:
    """Check that every frame arrives before the caller has heard the one before it."""
    words = [*(("chunk", f"{word} ") for word in " ".join(STORY[:2]).split()), ("finish", "stop"), ("done",)]
    async with upstream(default=words) as up:
        server = Server(tmp_path, up.url)
        await server.start()

        async def one() -> list[float]:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            body = json.dumps({"messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
            head = f"POST {AUDIO} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\ncontent-length: {len(body)}\r\n"
            writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body)
            times: list[float] = []
            while b"[DONE]" not in (line := await reader.readline()):
                assert line, "the stream ended without [DONE]"
                if b'"data":"' in line:
                    times.append(time.monotonic())
            writer.close()
            return times

        every = await asyncio.gather(*(one() for _ in range(50)))
        await server.kill()
    for times in every:
        assert len(times) > 120 and times[-1] - times[0] > 0.8 * len(times) * 0.04 - 0.2, "paced"
        late = [came - times[0] - at * 0.04 for at, came in enumerate(times)]
        assert max(late[1:]) < 2, "a guard only: benchmarks/sound.py measures whether each frame is in time"


async def test_no_recording_is_read_on_the_event_loop(tmp_path: Path) -> None:
    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            readers.add(threading.get_ident())
            return super().read(size)

    readers: set[int] = set()
    spec = Graph(name="wait", steps=(Step("play_recording", options={"real_time": False}),))
    async with serving(tmp_path, (spec, [])) as served:
        services: Any = served.state.services
        services.recording = lambda name: Watched(b"x" * 400_000)  # a fake disk
        answer = read_stream((await served.ask("hi", "/wait/chat/completions")).body)
    assert len(answer.audio) == 313 and readers and threading.get_ident() not in readers


# Barge-ins.


async def test_a_barge_in_stops_voice_and_model(tmp_path: Path) -> None:
    """Break in during the sound: the upstream's socket is closed, and no task of the turn is left."""
    async with upstream(default=[*(("chunk", part) for part in STORY), ("hang",)]) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            for number in range(30):
                connection = await hearing(served)
                connection.reset()
                exchange = up.exchanges[number]
                await up.until(lambda exchange=exchange: exchange.left is not None)  # type: ignore[misc]  # bound now
            await up.until(lambda: not any(task.get_name().startswith("turn of") for task in asyncio.all_tasks()))


class CountedVoice:
    """A fake voice that never ends a sentence and counts how often it began and was stopped."""

    healthy = True
    capabilities = Capabilities()
    sample_rate = 16_000

    def __init__(self) -> None:
        self.began = self.stopped = 0

    async def speak(self, text: str, voice: str = "") -> AsyncGenerator[Sound, None]:
        self.began += 1
        try:
            while True:
                await asyncio.sleep(0.02)
                yield Sound(bytes(640))
        finally:
            self.stopped += 1

    async def prewarm(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""


async def test_a_barge_in_stops_a_running_synthesis(tmp_path: Path) -> None:
    async with upstream(default=[("chunk", "A story. "), ("chunk", "It goes on"), ("hang",)]) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            await served.state.services.voice("main").aclose()
            voice = CountedVoice()
            served.state.services._voices["main"] = voice  # a fake engine
            for number in range(50):
                connection = await hearing(served)
                connection.reset()
                await up.until(lambda number=number: voice.stopped > number)  # type: ignore[misc]  # bound now
    assert voice.began == 50


async def test_barge_ins_leave_no_extra_espeak_process(tmp_path: Path) -> None:
    async def one(number: int) -> None:
        connection = await served.connect()
        body = {"messages": [{"role": "assistant", "content": "".join(STORY[:20])}], "stream": True}
        await connection.send(served.request(AUDIO, body))
        await connection.head()
        for _ in range(number % 5):
            await connection.chunk()
        connection.reset()

    async with serving(tmp_path) as served:
        await asyncio.gather(*(one(number) for number in range(40)))
        await until(lambda: len(children()) <= 4)
        assert read_stream((await served.ask("How much is the sauna?", AUDIO)).body).audio


# Voices that fail.


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ([("status", 401, {}, b"secret")], 502, "voice_unauthorized"),
        ([("status", 429, {}, b"")], 429, "voice_rate_limited"),
        ([("status", 400, {}, b"no such voice")], 400, "voice_rejected"),
        ([("type", "text/html"), ("raw", b"<html>")], 502, "voice_malformed"),
    ],
)
async def test_a_voice_that_fails_before_any_sound_gives_an_error_status(
    tmp_path: Path, script: list[Action], status: int, code: str
) -> None:
    async with upstream(default=script) as up, serving(tmp_path, voices={"main": up.url}) as served:
        whole = await served.post(AUDIO, {"messages": [{"role": "user", "content": "Is there a gym?"}]})
        assert whole.status == status and whole.error["code"] == code and "secret" not in whole.body.decode()
        streamed = await served.ask("Is there a gym?", AUDIO)
        assert streamed.status == status and streamed.error["code"] == code, (
            "no sound was sent, so the error must be a status"
        )


async def test_a_voice_that_fails_midway_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    sound: list[Action] = [("type", "audio/pcm"), ("raw", b"\1\2" * 24_000)]
    async with upstream(sound, [*sound, ("rst",)]) as up, serving(tmp_path, voices={"main": up.url}) as served:
        body = {"messages": [{"role": "assistant", "content": "One is here. Two are there. "}], "stream": True}
        answer = read_stream((await served.post(AUDIO, body)).body)
    assert answer.error is not None and answer.error["code"] == "voice_incomplete"
    assert answer.transcript.startswith("One is here. ") and len(answer.audio) >= 25


async def test_the_next_sentence_is_requested_while_this_one_plays(tmp_path: Path) -> None:
    """Use a distant voice that takes half a second to begin: only the first sentence waits for it."""
    script: list[Action] = [("type", "audio/pcm"), ("sleep", 0.5), ("raw", b"\1\2" * 24_000)]
    async with upstream(default=script) as up, serving(tmp_path, voices={"main": up.url}) as served:
        connection = await served.connect()
        body = {"messages": [{"role": "assistant", "content": "One. Two. Three."}], "stream": True}
        await connection.send(served.request(AUDIO, body))
        await connection.head()
        asked: list[int] = []
        while piece := await connection.chunk():
            asked += [len(up.exchanges)] * piece.count(b'"data":')
    assert len(asked) == 75 and len(up.exchanges) == 3
    assert asked[20] >= 2 and asked[45] == 3, (
        "each sentence of 25 frames must be requested before the previous one has ended"
    )


async def test_words_before_a_failure_of_the_model_are_spoken_to_their_end(tmp_path: Path) -> None:
    script: list[Action] = [("chunk", "The gym is open. The pool is not. And the sa"), ("sleep", 0.1), ("rst",)]
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}) as served:
        answer = read_stream((await served.ask("x", AUDIO)).body)
    assert answer.error is not None and answer.error["code"] == "upstream_incomplete"
    assert answer.transcript == "The gym is open. The pool is not. And the sa" and len(answer.audio) > 60


@pytest.mark.parametrize("streams", [True, False])
async def test_the_fallback_phrase_is_spoken_too(tmp_path: Path, streams: bool) -> None:
    policy = Policy(on_failure="speak", fallback="I am sorry, please say that again.")
    spec = Graph(name="kind", steps=(Step("emit_audio"), Step("call_model")), policy=policy)
    script: list[Action] = [("chunk", "The gym is"), ("sleep", 0.1), ("rst",)]
    async with upstream(script) as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        body = {"messages": [{"role": "user", "content": "x"}], "stream": streams}
        reply = await served.post("/kind/chat/completions", body)
    if streams:
        answer = read_stream(reply.body)
        transcript, text, seconds = answer.transcript, answer.text, len(answer.audio) * 0.04
    else:
        message = reply.json()["choices"][0]["message"]
        transcript, text = message["audio"]["transcript"], message["content"] or ""
        seconds = len(base64.b64decode(message["audio"]["data"])) / 32_000
    assert " ".join(transcript.split()) == "The gym is I am sorry, please say that again." and not text and seconds > 2


async def test_a_failing_voice_is_reported_while_the_model_is_silent(tmp_path: Path) -> None:
    async with upstream(default=[("status", 500, {}, b"")]) as tts, upstream([("chunk", "One. "), ("hang",)]) as up:
        async with serving(tmp_path, models={"main": up.url}, voices={"main": tts.url}) as served:
            began = time.monotonic()
            reply = await served.ask("x", AUDIO)
            await up.until(lambda: up.exchanges[0].left is not None)
    assert reply.status == 502 and reply.error["code"] == "voice_failed" and time.monotonic() - began < 7


async def test_a_steps_deadline_does_not_count_the_playback_of_its_words(tmp_path: Path) -> None:
    words = "This is a sentence that takes a good deal longer to be heard than its step may take to say it. "
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    script: list[Action] = [("chunk", words), ("delta", {"tool_calls": [call]}), ("finish", "tool_calls"), ("done",)]
    spec = Graph(name="g", steps=(Step("emit_audio"), Step("call_model", timeout_ms=1500)))
    async with upstream(script) as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
        answer = read_stream((await served.ask("x", "/g/chat/completions", tools=[tool])).body)
    assert answer.error is None and answer.tool_calls[0]["name"] == "look" and answer.finish == "tool_calls"
    assert answer.transcript == words and len(answer.audio) * 0.04 > 3


async def test_usage_of_a_turn_in_sound_counts_after_a_barge_in(tmp_path: Path) -> None:
    """Break in: the words that the model had sent are counted."""
    async with upstream(default=[("chunk", "".join(STORY[:3])), ("hang",)]) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            entries: list[Any] = []
            ledger: Any = served.state.ledger
            add = ledger.add

            def note(entry: Any, charges: Any) -> None:
                entries.append(entry)
                add(entry, charges)

            ledger.add = note
            connection = await hearing(served)
            connection.reset()
            await up.until(lambda: bool(entries))
    assert entries[0].completion_tokens > 5 and entries[0].estimated


async def test_one_turn_has_one_sound_even_from_several_steps(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "file.txt").write_text("A jingle.", encoding="utf-8")
    (folder / "file.pcm").write_bytes(b"\x11\x11" * 16_000)
    steps = (Step("emit_audio"), Step("greet", options={"greeting": "Welcome."}), Step("play_recording"))
    async with serving(tmp_path, (Graph(name="g", steps=steps), [])) as served:
        body = {"messages": [{"role": "assistant", "content": "x"}], "audio": {"format": "wav"}, "stream": True}
        answer = read_stream((await served.post("/g/chat/completions", body)).body)
    sound = b"".join(answer.audio)
    assert len(answer.audio_ids) == 1 and sound.startswith(b"RIFF") and sound.count(b"RIFF") == 1
    assert answer.transcript.endswith("A jingle.") and b"\x11\x11" * 16_000 in sound


async def test_an_unknown_format_is_refused_before_a_recording_begins(tmp_path: Path) -> None:
    spec = Graph(name="g", steps=(Step("play_recording"),))
    async with serving(tmp_path, (spec, [])) as served:
        reply = await served.ask("x", "/g/chat/completions", audio={"format": "mp3"})
        assert reply.status == 400 and reply.error["code"] == "voice_rejected"
        text = await served.ask("x", "/g/chat/completions", audio={"format": "mp3"}, modalities=["text"])
        assert read_stream(text.body).text.startswith("[simulated]")


async def test_sentences_do_not_run_together(tmp_path: Path) -> None:
    script: list[Action] = [
        ("chunk", "One is here."), ("sleep", 0.4), ("chunk", "\n\n"), ("sleep", 0.4), *says("Two are there."),
    ]  # fmt: skip
    async with upstream(script) as up, serving(tmp_path, models={"main": up.url}) as served:
        profile = {"x-dialgraph-profile": "openai"}
        body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
        answer = read_stream((await served.post(AUDIO, body, profile)).body)
    assert answer.transcript.split() == "One is here. Two are there.".split()
    assert answer.transcript == "One is here.\n\nTwo are there." or answer.transcript == "One is here.\nTwo are there."


async def test_an_unstreamed_reply_holds_at_most_15_minutes_of_sound(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        body = {"messages": [{"role": "assistant", "content": " ".join(STORY * 3)}]}
        reply = await served.post(AUDIO, body)
    assert reply.status == 400 and "more than 15 minutes of sound. Use streaming" in reply.error["message"]


async def test_a_long_text_does_not_hold_up_other_callers(tmp_path: Path) -> None:
    """Ask for another answer while thirty thousand commas are spoken."""
    async with serving(tmp_path) as served:
        connection = await served.connect()
        body = {"messages": [{"role": "assistant", "content": "," * 30_000 + "x"}], "stream": True}
        await connection.send(served.request(AUDIO, body))
        began = time.monotonic()
        assert read_stream((await served.ask("hi")).body).text
        assert time.monotonic() - began < 10
        connection.reset()


async def test_a_policy_with_an_unknown_voice_is_refused_at_the_start(tmp_path: Path) -> None:
    spec = Graph(name="g", steps=(Step("call_model"),), policy=Policy(voice="nope"))
    app = create_app(Settings(data_dir=tmp_path))
    add_graphs(app, (spec, []))
    with pytest.raises(GraphError, match="No voice 'nope' in the settings. Accepted: 'main'"):
        prepare(app.state.dialgraph)


async def test_hangup_says_no_goodbye_after_a_goodbye_of_the_model(tmp_path: Path) -> None:
    say = {"en": "Goodbye!"}
    steps = (
        Step("emit_audio", options={"real_time": False}),
        Step("call_model", then={"answered": END, "hangup": "hangup"}),
        Step("hangup", options={"say": say}),
    )
    script = [("chunk", "Bye bye, have a nice day."), *calls("hangup")]
    async with upstream(default=script) as up:
        async with serving(tmp_path, (Graph(name="g", steps=steps), []), models={"main": up.url}) as served:
            answer = read_stream((await served.ask("bye", "/g/chat/completions")).body)
    assert answer.transcript == "Bye bye, have a nice day." and answer.tool_calls[0]["name"] == "hangup"


@pytest.mark.long
async def test_long_words_are_spoken_whole_and_the_fallback_phrase_once(tmp_path: Path) -> None:
    """Speak more than fifteen seconds of words."""
    line = "I am sorry, please say that again."
    policy = Policy(on_failure="speak", fallback=line)
    spec = Graph(name="kind", steps=(Step("emit_audio"), Step("call_model")), policy=policy)
    script: list[Action] = [("chunk", "".join(STORY[:5])), ("sleep", 0.1), ("rst",)]
    async with upstream(script) as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        answer = read_stream((await served.ask("x", "/kind/chat/completions")).body)
    assert " ".join(answer.transcript.split()) == " ".join("".join(STORY[:5]).split()) + f" {line}"
    assert len(answer.audio) * 0.04 > 16 and not answer.text and answer.finish == "stop"


async def test_words_before_a_tool_are_spoken_while_it_runs(tmp_path: Path) -> None:
    async def look() -> str:
        """Look up the time."""
        await asyncio.sleep(2.0)
        return "five"

    steps = (
        Step("emit_audio"),
        Step("call_model", then={"answered": END, "run_tools": "run_tools"}),
        Step("run_tools", then="call_model"),
    )
    spec = Graph(name="g", steps=steps)
    async with upstream([("chunk", "Let me look that up"), *calls("look")], says(" It is five.")) as up:
        graph = compile_graph(spec, tools=[look])
        async with serving(tmp_path, models={"main": up.url}) as served:
            add_graphs(served.app, compiled=[(spec, graph)])
            connection = await served.connect()
            body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
            await connection.send(served.request("/g/chat/completions", body))
            began, got, first = time.monotonic(), b"", 0.0
            await connection.head()
            while piece := await connection.chunk():
                got += piece
                first = first or (time.monotonic() - began if b'"data":' in piece else 0.0)
    assert first < 1.5 and read_stream(got).transcript.split() == "Let me look that up It is five.".split()


@pytest.mark.parametrize("times", [1, 2])
async def test_a_call_ends_only_after_its_recording_has_been_heard(tmp_path: Path, times: int) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "file.txt").write_text("A jingle.", encoding="utf-8")
    (folder / "file.pcm").write_bytes(b"\x11\x11" * 16_000)
    plays = tuple(Step("play_recording", name=f"play_{at}") for at in range(times))
    spec = Graph(name="g", steps=(*plays, Step("hangup", options={"say": ""})))
    async with serving(tmp_path, (spec, [])) as served:
        connection = await served.connect()
        body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
        await connection.send(served.request("/g/chat/completions", body))
        await connection.head()
        got, came = b"", list[float]()
        while piece := await connection.chunk():
            got += piece
            came += [time.monotonic()] * piece.count(b'"data":')
            ended = time.monotonic()
    answer = read_stream(got)
    assert answer.transcript == " ".join(["A jingle."] * times) and len(answer.audio_ids) == 1
    assert ended - came[0] >= times * 1.0 - 0.05, "the call must not end before the sound has been heard"
    ahead = [at * 0.04 - (moment - came[0]) for at, moment in enumerate(came)]
    assert max(ahead) < 0.3, "the whole turn may run ahead by one lead only"


async def test_words_that_were_spoken_as_sound_stay_in_the_conversation(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        whole = (await served.post(AUDIO, {"messages": [{"role": "user", "content": "Is there a gym?"}]})).json()
    message = whole["choices"][0]["message"]
    assert message["content"] is None and message["audio"]["transcript"]
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        ask = [{"role": "user", "content": "hi"}, message, {"role": "user", "content": "And on Sunday?"}]
        await served.post("/chat/completions", {"messages": ask, "stream": True})
    said = up.bodies[0]["messages"][1]
    assert said["role"] == "assistant" and said["content"] == message["audio"]["transcript"] and "audio" not in said
