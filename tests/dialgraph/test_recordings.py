"""Recordings: which files can be played, how they sound, and how they are sent."""

import os
import struct
import time
import wave
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dialgraph.graph.spec import Graph, Step
from dialgraph.services.services import OpenServices
from dialgraph.services.settings import GraphSettings
from dialgraph.speech.recordings import RecordingError, open_recording, samples
from dialgraph.turn.events import Audio, Event, Say, Transcript
from dialgraph.turn.node import Turn, TurnRequest
from nodes.play_recording import play_recording
from tests.support.serving import serving
from tests.support.sound import samples_of

OPENED: list[Turn] = []


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """Close what the turns of a test opened."""
    yield
    while OPENED:
        await OPENED.pop().aclose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create the folder of recordings, with the words of one recording."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "file.txt").write_text("Hello from a file.\n", encoding="utf-8")
    return folder


def turn_of(tmp_path: Path, **fields: Any) -> tuple[Turn, list[Event]]:
    """Return a turn and the list of the events that it emits."""
    services = OpenServices(GraphSettings(data_dir=tmp_path))
    turn = Turn(services, TurnRequest([{"role": "user", "content": "hi"}], **fields))
    OPENED.append(turn)
    events: list[Event] = []

    async def hear(event: Event) -> None:
        events.append(event)

    turn.line.connect(hear)
    return turn, events


FORMAT = b"RIFF\x10\0\0\0WAVEfmt \x10\0\0\0"


def sine(rate: int, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray[Any, Any]:
    """Return a sine wave from -0.5 to 0.5."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


async def test_a_recording_is_sent_as_words_then_frames_of_forty_ms(tmp_path: Path, folder: Path) -> None:
    pcm = struct.pack("<1000h", *range(1000)) * 2
    (folder / "file.pcm").write_bytes(pcm + b"\x01")
    turn, events = turn_of(tmp_path)
    began = time.perf_counter()
    await play_recording({}, turn)
    assert isinstance(events[0], Transcript) and events[0].text == "Hello from a file."
    frames = [event for event in events if isinstance(event, Audio)]
    assert {len(frame.data) for frame in frames} == {1280}
    assert b"".join(frame.data for frame in frames) == pcm + bytes(4 * 1280 - len(pcm))
    assert {frame.id for frame in frames} == {events[0].id}
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize(("width", "channels"), [(1, 1), (2, 1), (2, 2), (3, 1), (4, 2)])
async def test_a_wav_is_read_at_any_rate_width_and_channel_count(
    tmp_path: Path, folder: Path, rate: int, width: int, channels: int
) -> None:
    level = sine(rate)
    whole = np.repeat(level, channels)
    with wave.open(str(folder / "file.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        numbers = np.rint(whole * (2 ** (8 * width - 1) - 1)).astype(np.int64)
        if width == 1:
            file.writeframes((numbers + 128).astype(np.uint8).tobytes())
        else:
            file.writeframes(b"".join(int(one).to_bytes(width, "little", signed=True) for one in numbers))
    turn, events = turn_of(tmp_path, streaming=False)
    await play_recording({}, turn, recording="file.wav")
    heard = samples_of(b"".join(event.data for event in events if isinstance(event, Audio)))
    assert 16_000 <= len(heard) <= 16_640
    assert np.abs(heard[800:15_200] - sine(16_000)[800:15_200]).max() < 0.02


def test_float_samples_and_unusual_wav_headers_are_read(tmp_path: Path) -> None:
    level = sine(16_000)
    extensible = struct.pack("<HHIIHHHHIH14x", 0xFFFE, 1, 16_000, 32_000, 2, 16, 22, 16, 4, 1)
    float_format = struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32)
    pcm = np.rint(level * 32_767).astype("<i2").tobytes()
    files = {
        "extensible": (extensible, b"LIST\x05\0\0\0abcde\0", pcm, len(pcm)),
        "float": (float_format, b"", level.astype("<f4").tobytes(), 64_000),
        "streamed": (struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16), b"", pcm, 0xFFFFFFFF),
        "cut": (struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16), b"", pcm, len(pcm) * 9),
        "longer": (struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16), b"", pcm + b"TAG not sound", len(pcm)),
    }
    for name, (form, between, data, length) in files.items():
        chunks = b"fmt " + struct.pack("<I", len(form)) + form + between + b"data" + struct.pack("<I", length) + data
        file = tmp_path / f"{name}.wav"
        file.write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks)
        with open_recording(tmp_path, file.name) as opened:
            heard = samples_of(b"".join(samples(opened, file.name, 16_000, 16_000)))
        assert len(heard) == 16_000 and np.abs(heard - level).max() < 0.001, name


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"not a wav at all", "is a WAV that has no RIFF header"),
        (b"RIFF\x10\0\0\0WAVEjunk\xff\xff\xff\x7f", "is not a WAV file"),
        (b"RIFF\x10\0\0\0WAVEdata\x04\0\0\0abcd", "has samples before its format"),
        (
            FORMAT + struct.pack("<HHIIHH", 85, 1, 16_000, 0, 1, 0),
            "has samples of kind 85",
        ),
        (FORMAT + struct.pack("<HHIIHH", 1, 0, 16_000, 0, 1, 16), "has 0 channels"),
        (FORMAT + struct.pack("<HHIIHH", 1, 1, 1, 0, 1, 16), "at 1 Hz"),
        (b"RIFF\x10\0\0\0AVI fmt \x10\0\0\0", "has no RIFF header"),
        (b"RIFF", "is not a WAV file"),
        (b"ID3\4" * 9, "is compressed sound"),
        (b"", "is not a WAV file"),
    ],
)
async def test_a_damaged_recording_is_simulated_or_an_error(
    tmp_path: Path, folder: Path, data: bytes, fault: str
) -> None:
    (folder / "file.wav").write_bytes(data)
    turn, events = turn_of(tmp_path, streaming=False)
    await play_recording({}, turn, recording="file.wav")
    assert isinstance(events[0], Transcript)
    assert events[0].text == "[simulated] The recording 'file.wav' cannot be played, so this is a tone in its place."
    turn, events = turn_of(tmp_path, streaming=False)
    with pytest.raises(RecordingError, match=fault) as told:
        await play_recording({}, turn, recording="file.wav", missing="error")
    assert str(tmp_path) not in str(told.value) and not events


@pytest.mark.parametrize("missing", ["silence", "tone"])
async def test_a_missing_recording_is_simulated_and_says_so(tmp_path: Path, missing: Any) -> None:
    turn, events = turn_of(tmp_path, streaming=False)
    await play_recording({}, turn, missing=missing)
    assert isinstance(events[0], Transcript) and events[0].text.startswith("[simulated]") and missing in events[0].text
    assert "'file.txt' was not found" in events[0].text
    pcm = b"".join(event.data for event in events if isinstance(event, Audio))
    numbers = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    assert len(numbers) == 16_000
    assert (max(numbers) == 0) == (missing == "silence")
    assert all(abs(one - other) < 1200 for one, other in pairwise(numbers)), "the caller would hear noise"


async def test_a_required_recording_that_is_missing_is_a_clear_http_error(tmp_path: Path) -> None:
    spec = Graph(name="greeting", steps=(Step("play_recording", options={"missing": "error"}),))
    async with serving(tmp_path, (spec, [])) as served:
        reply = await served.ask("hi", "/greeting/chat/completions")
    assert reply.status == 500 and reply.error["message"] == "The recording 'file.txt' was not found."
    assert reply.error["code"] == "recording_unplayable"


async def test_a_client_that_wants_text_gets_the_words_of_a_recording(tmp_path: Path, folder: Path) -> None:
    turn, events = turn_of(tmp_path, parameters={"modalities": ["text"]})
    await play_recording({}, turn)
    assert events == [Say("Hello from a file.")]


async def test_a_recording_is_sent_at_the_pace_of_playback(tmp_path: Path) -> None:
    turn, _ = turn_of(tmp_path)
    times: list[float] = []
    hear = turn.line.sink

    async def note(event: Event) -> None:
        times.append(time.perf_counter())
        await hear(event)

    turn.line.connect(note)
    await play_recording({}, turn)
    heard = [at - times[1] for at in times[1:]]
    # 25 frames are one second of sound. They are sent 0.2 s ahead and never later than they are played.
    assert 0.7 <= heard[-1] <= 0.96
    assert all(at <= frame * 0.04 for frame, at in enumerate(heard))


async def test_a_long_recording_is_read_a_second_at_a_time(tmp_path: Path, folder: Path) -> None:
    """Play ten minutes. After the first second, only a small part of the file has been read."""
    (folder / "file.pcm").write_bytes(bytes(600 * 32_000))
    spec = Graph(name="wait", steps=(Step("play_recording"),))
    async with serving(tmp_path, (spec, [])) as served:
        connection = await served.connect()
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
        await connection.send(served.request("/wait/chat/completions", body))
        await connection.head()
        got = 0
        while got < 25:
            got += (await connection.chunk()).count(b'"data":')
        [place] = places_in("file.pcm")
        assert place <= 5 * 32_000
        connection.reset()


def places_in(name: str) -> list[int]:
    """Return how far each open file with this name has been read, in bytes."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}").endswith(name):
                found.append(int(Path(f"/proc/self/fdinfo/{number}").read_text().split()[1]))
    return found


@pytest.mark.parametrize(
    "name", ["../keys.json", "/etc/passwd", "a/../../keys.json", "a\\..\\..\\keys.json", "", ".", "a//b", "x\0y"]
)
def test_a_name_that_leads_outside_the_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(RecordingError, match="is outside the folder of recordings"):
        open_recording(folder, name)


def test_links_folders_and_pipes_are_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "keys.json").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.pcm").write_text("secret")
    (folder / "link.pcm").symlink_to(tmp_path / "keys.json")
    (folder / "inner.pcm").symlink_to(folder / "file.txt")
    (folder / "below").symlink_to(tmp_path / "outside")
    for name in ("link.pcm", "inner.pcm", "below/x.pcm"):
        with pytest.raises(RecordingError, match="links are not followed"):
            open_recording(folder, name)
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe.pcm")
    for name in ("sub", "pipe.pcm"):
        with pytest.raises(RecordingError, match="is not a file"):
            open_recording(folder, name)
    (folder / "sub" / "x.pcm").write_bytes(b"ok")
    with open_recording(folder, "sub/x.pcm") as opened:
        assert opened.read() == b"ok"
