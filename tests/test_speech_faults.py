"""Many who listen at once, callers who break in, and voices that fail: no gap, no word after the end, nothing left."""

import asyncio
import io
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphs.spec import Graph, Step
from speech.port import Capabilities, Sound
from tests.server_process import Server
from tests.serving import serving
from tests.test_voices import children, until
from tests.upstream import Action, upstream
from tests.wire import read_stream


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """No test leaves a process of the voice to the next one."""
    yield
    assert not children()


AUDIO = "/audio/chat/completions"
STORY = [f"This is sentence number {at} of a story that goes on and on. " for at in range(200)]


async def test_l10_fifty_streams_are_heard_without_a_gap(tmp_path: Path) -> None:
    """Every frame is there before the caller has heard the one before it."""
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
                assert line, "the stream ended without its end"
                if b'"data":"' in line:
                    times.append(time.monotonic())
            writer.close()
            return times

        every = await asyncio.gather(*(one() for _ in range(50)))
        await server.kill()
    for times in every:
        assert len(times) > 120 and times[-1] - times[0] > 0.8 * len(times) * 0.04 - 0.2, "paced"
        late = [came - times[0] - at * 0.04 for at, came in enumerate(times)]
        assert max(late[1:]) < 0, "a gap in the caller's ear"


async def test_l10_no_recording_is_read_on_the_event_loop(tmp_path: Path) -> None:
    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            readers.add(threading.get_ident())
            return super().read(size)

    readers: set[int] = set()
    spec = Graph(name="wait", steps=(Step("play_recording", options={"real_time": False}),))
    async with serving(tmp_path, (spec, [])) as served:
        services: Any = served.state.services
        services.recording = lambda name: Watched(b"x" * 400_000)  # a fake at the edge: the disk
        answer = read_stream((await served.ask("hi", "/wait/chat/completions")).body)
    assert len(answer.audio) == 313 and readers and threading.get_ident() not in readers


# Breaking in.


async def test_breaking_in_ends_voice_and_model_at_once(tmp_path: Path) -> None:
    """C01 in the middle of the sound: the upstream's socket is closed, and nothing of the voice is left."""
    delays = []
    async with upstream(default=[*(("chunk", part) for part in STORY), ("hang",)]) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            for number in range(30):
                connection = await served.connect()
                body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
                await connection.send(served.request(AUDIO, body))
                await connection.head()
                while b'"data":' not in await connection.chunk():
                    pass
                left = time.monotonic()
                connection.reset()
                exchange = up.exchanges[number]
                await up.until(lambda exchange=exchange: exchange.left is not None, 2)  # type: ignore[misc]  # bound now
                delays.append((exchange.left or 0) - left)
            await up.until(lambda: not any(task.get_name().startswith("turn of") for task in asyncio.all_tasks()), 2)
    assert np.quantile(delays, 0.99) < 0.25 and np.median(delays) < 0.05


class CountedVoice:
    """A voice at the edge of the world: it takes its time, and tells when it was stopped."""

    capabilities = Capabilities()
    sample_rate = 16_000

    def __init__(self) -> None:
        self.began: list[float] = []
        self.stopped: list[float] = []

    async def speak(self, text: str, voice: str = "") -> AsyncGenerator[Sound, None]:
        self.began.append(time.monotonic())
        try:
            while True:
                await asyncio.sleep(0.02)
                yield Sound(bytes(640))
        finally:
            self.stopped.append(time.monotonic())

    async def prewarm(self) -> None:
        """Nothing."""

    async def aclose(self) -> None:
        """Nothing."""


async def test_breaking_in_stops_a_synthesis_that_is_under_way(tmp_path: Path) -> None:
    delays = []
    async with upstream(default=[("chunk", "A story. "), ("chunk", "It goes on"), ("hang",)]) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            await served.state.services.voice("main").aclose()
            voice = CountedVoice()
            served.state.services._voices["main"] = voice  # a fake at the edge: the engine
            for number in range(50):
                connection = await served.connect()
                body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
                await connection.send(served.request(AUDIO, body))
                await connection.head()
                while b'"data":' not in await connection.chunk():
                    pass
                left = time.monotonic()
                connection.reset()
                await up.until(lambda number=number: len(voice.stopped) > number, 2)  # type: ignore[misc]  # bound now
                delays.append(voice.stopped[number] - left)
    assert len(voice.began) == 50 and np.median(delays) < 0.05 and max(delays) < 0.25


async def test_nothing_is_left_of_espeak_when_callers_break_in(tmp_path: Path) -> None:
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
    assert not children()


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
async def test_a_voice_that_fails_before_a_sound_is_told(
    tmp_path: Path, script: list[Action], status: int, code: str
) -> None:
    async with upstream(default=script) as up, serving(tmp_path, voices={"main": up.url}) as served:
        whole = await served.post(AUDIO, {"messages": [{"role": "user", "content": "Is there a gym?"}]})
        assert whole.status == status and whole.error["code"] == code and "secret" not in whole.body.decode()
        streamed = await served.ask("Is there a gym?", AUDIO)
        assert streamed.status == status and streamed.error["code"] == code, "nothing was heard, so nothing was sent"


async def test_a_voice_that_fails_in_the_middle_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    sound: list[Action] = [("type", "audio/pcm"), ("raw", b"\1\2" * 24_000)]
    async with upstream(sound, [*sound, ("rst",)]) as up, serving(tmp_path, voices={"main": up.url}) as served:
        body = {"messages": [{"role": "assistant", "content": "One is here. Two are there. "}], "stream": True}
        answer = read_stream((await served.post(AUDIO, body)).body)
    assert answer.error is not None and answer.error["code"] == "voice_incomplete"
    assert answer.transcript.startswith("One is here. ") and len(answer.audio) >= 25


async def test_the_next_sentence_is_made_while_this_one_is_heard(tmp_path: Path) -> None:
    """A far voice takes half a second to begin: only the first sentence waits for it."""
    script: list[Action] = [("type", "audio/pcm"), ("sleep", 0.5), ("raw", b"\1\2" * 24_000)]
    async with upstream(default=script) as up, serving(tmp_path, voices={"main": up.url}) as served:
        connection = await served.connect()
        body = {"messages": [{"role": "assistant", "content": "One. Two. Three."}], "stream": True}
        await connection.send(served.request(AUDIO, body))
        await connection.head()
        times: list[float] = []
        while piece := await connection.chunk():
            times += [time.monotonic()] * piece.count(b'"data":')
    assert len(times) == 75 and len(up.exchanges) == 3
    assert max(np.diff(times)) < 0.25, "a gap between two sentences"
