"""One contract for every voice, then what each engine does when something fails."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import numpy as np
import psutil
import pytest
from pydantic import SecretStr

from dialgraph.project import ROOT
from dialgraph.speech.espeak import AT_ONCE
from dialgraph.speech.port import Sound, Voice, VoiceAddress, VoiceError, open_voice
from dialgraph.speech.resample import Resampler
from dialgraph.speech.wav import header
from tests.support.sound import cepstra, distance, longest_gap, samples_of, voiced_share
from tests.support.upstream import Action, Upstream, upstream

HELLO = "Good morning, how can I help you today?"
NIHAO = "早上好，请问有什么可以帮您？"


async def spoken(voice: Voice, text: str, name: str = "") -> list[Sound]:
    """Speak a sentence and return its sounds."""
    async with aclosing(voice.speak(text, name)) as sounds:
        return [sound async for sound in sounds]


def pcm_of(sounds: list[Sound]) -> bytes:
    """Return the PCM of all sounds."""
    return b"".join(sound.pcm for sound in sounds)


def tone_script(body: dict[str, object]) -> list[Action]:
    """Return what a speech server sends: a hum as long as the text, in pieces that split samples."""
    pcm = bytes(range(1, 101)) * (24 * 4 * len(str(body["input"])))
    return [("type", "audio/pcm"), *(("raw", pcm[at : at + 9_999]) for at in range(0, len(pcm), 9_999))]


@pytest.fixture(params=["tone", "espeak", "openai", "openai wav"])
async def voice(request: pytest.FixtureRequest) -> AsyncIterator[Voice]:
    """Open a voice of each engine."""
    if request.param in ("tone", "espeak"):
        one = open_voice("main", VoiceAddress({"tone": "tone:440", "espeak": "espeak:"}[request.param]))
        yield one
        await one.aclose()
        return
    async with upstream() as up:

        def script(body: dict[str, object]) -> list[Action]:
            actions = tone_script(body)
            if request.param == "openai wav":  # a server that sends WAV instead of raw PCM, at its own rate
                actions[1:1] = [("raw", header(44_100)[:20]), ("raw", header(44_100)[20:])]
            return actions

        up.choose = script
        one = open_voice("main", VoiceAddress(up.url, "m", "v", SecretStr("key")))
        yield one
        await one.aclose()


@pytest.mark.parametrize("text", [HELLO, NIHAO])
async def test_a_voice_sends_whole_samples_that_last_as_long_as_a_sentence(voice: Voice, text: str) -> None:
    sounds = await spoken(voice, text)
    assert all(len(sound.pcm) % 2 == 0 and sound.pcm for sound in sounds) and len(sounds) > 1
    seconds = len(pcm_of(sounds)) / 2 / voice.sample_rate
    assert 1 < seconds < 8
    assert samples_of(pcm_of(sounds)).max() > 0.01


async def test_sentences_that_are_spoken_in_parallel_do_not_mix(voice: Voice) -> None:
    texts = [
        HELLO,
        NIHAO,
        "One.",
        "Two and a half, three, four and five.",
        "一共是八欧元，谢谢。",
        "The end of it all.",
    ] * 3
    # Resampling adds dither and espeak-ng adds breath: no two sounds are the same to the bit.
    alone = {text: len(pcm_of(await spoken(voice, text))) for text in set(texts)}
    together = await asyncio.gather(*(spoken(voice, text) for text in texts))
    assert len(set(alone.values())) == len(alone)
    assert [len(pcm_of(one)) for one in together] == pytest.approx([alone[text] for text in texts], rel=0.05)


async def test_a_listener_that_stops_does_not_affect_later_sentences(voice: Voice) -> None:
    for _ in range(5):
        async with aclosing(voice.speak(HELLO)) as sounds:
            assert (await anext(sounds)).pcm
    tasks = [asyncio.create_task(spoken(voice, HELLO)) for _ in range(12)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert pcm_of(await asyncio.wait_for(spoken(voice, HELLO), 5))


async def test_word_times_are_in_order_and_inside_the_sound(voice: Voice) -> None:
    for text, first, count in ((HELLO, "Good", 8), (NIHAO, "早上", 5)):
        sounds = await spoken(voice, text)
        words = [word for sound in sounds for word in sound.words]
        assert bool(words) == voice.capabilities.words
        if words:
            assert words[0].text == first and len(words) >= count
            length = len(pcm_of(sounds)) / 2 / voice.sample_rate * 1000
            assert words[0].start_ms == 0 and words[-1].end_ms <= length + 1
            assert all(one.end_ms == other.start_ms for one, other in pairwise(words))
            heard = 0.0
            for sound in sounds:
                begins, heard = heard, heard + len(sound.pcm) / 2 / voice.sample_rate * 1000
                assert all(begins - 1 <= word.start_ms < heard for word in sound.words)


def children() -> list[psutil.Process]:
    """Return the espeak-ng processes that this process has started."""
    return [one for one in psutil.Process().children() if "espeak_child" in " ".join(_command(one))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """Check that a test leaves no process running."""
    before = {child.pid for child in children()}
    yield
    assert not {child.pid for child in children()} - before


async def until(condition: Callable[[], bool], seconds: float = 7.0) -> None:
    """Wait until the condition is true. Fail after this many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        await asyncio.sleep(0.005)


async def test_espeak_sounds_like_speech() -> None:
    voice = open_voice("main", VoiceAddress("espeak:"))
    for text in (HELLO, NIHAO):
        heard = samples_of(pcm_of(await spoken(voice, text)))
        assert 0.5 < voiced_share(heard, 22_050) < 0.98
        assert longest_gap(heard, 22_050) < 0.7
    await voice.aclose()
    assert not children()


@pytest.mark.parametrize("text", ["One is here. ", "桑拿每人十二欧元。"])
async def test_espeak_pauses_after_a_sentence_and_does_not_clip(text: str) -> None:
    voice = open_voice("main", VoiceAddress("espeak:"))
    heard = samples_of(pcm_of(await spoken(voice, text)))
    quiet = np.flatnonzero(np.abs(heard) > 0.01)[-1]
    assert 0.15 < (len(heard) - quiet) / 22_050 < 0.7, (
        "without a pause, sentences that are spoken one by one run together"
    )
    assert 0.2 < np.abs(heard).max() < 0.95
    await voice.aclose()


async def test_espeak_follows_the_request_and_the_settings() -> None:
    voice = open_voice("main", VoiceAddress("espeak:"))
    usual = pcm_of(await spoken(voice, HELLO))
    one, again, low, high = [
        cepstra(samples_of(pcm_of(await spoken(voice, HELLO, name))), 22_050)
        for name in ("alloy", "alloy", "onyx", "nova")
    ]
    same = distance(one, again)
    assert all(distance(first, second) > 3 * same for first, second in ((one, low), (one, high), (low, high)))
    for name in voice.capabilities.voices:
        assert pcm_of(await spoken(voice, "Hi.", name)) and pcm_of(await spoken(voice, "好", name))
    with pytest.raises(VoiceError, match=r"The voice 'main' has no 'nobody'\. Accepted: alloy,") as refused:
        await spoken(voice, HELLO, "nobody")
    assert refused.value.kind == "rejected"
    with pytest.raises(VoiceError, match="has 5001 characters. Accepted: at most 5000"):
        await spoken(voice, "a" * 5001)
    slow = open_voice("slow", VoiceAddress("espeak:?rate=90", voice="onyx"))
    assert len(pcm_of(await spoken(slow, HELLO))) > 1.4 * len(usual)
    await voice.aclose()
    await slow.aclose()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (VoiceAddress("nope:"), "no engine for 'nope'. Accepted: espeak, http, https, tone."),
        (VoiceAddress("espeak:?speed=2"), "no option 'speed'. Accepted: english, chinese, rate, pitch."),
        (VoiceAddress("espeak:?english=xx-yy"), "english is 'xx-yy'. Accepted: a language of espeak-ng such as en-us,"),
        (VoiceAddress("espeak:?rate=9000"), "rate is '9000'. Accepted: 80 to 450."),
        (VoiceAddress("espeak:", voice="x"), "has no 'x'. Accepted: alloy"),
        (
            VoiceAddress("http:/127.0.0.1/v1"),
            "'http:/127.0.0.1/v1' is not an address. Accepted: http://… or https://….",
        ),
        (VoiceAddress("tone:loud"), "'loud' is not a frequency. Accepted: 50 to 4000 Hz."),
    ],
)
def test_a_wrong_address_is_refused_when_the_voice_is_opened(address: VoiceAddress, said: str) -> None:
    with pytest.raises(ValueError, match=r"voice 'v'") as wrong:
        open_voice("v", address)
    assert said in str(wrong.value)


async def test_espeak_speaks_the_languages_that_the_settings_name() -> None:
    american = open_voice("main", VoiceAddress("espeak:"))
    scottish = open_voice("main", VoiceAddress("espeak:?english=en-gb-scotland&chinese=yue"))
    for text in (HELLO, NIHAO):
        one, other = [cepstra(samples_of(pcm_of(await spoken(voice, text))), 22_050) for voice in (american, scottish)]
        assert distance(one, other) > 5
    await american.aclose()
    await scottish.aclose()


async def test_strange_texts_do_not_crash_espeak() -> None:
    voice = open_voice("main", VoiceAddress("espeak:"))
    texts = [
        "<speak><break time='9h'/></speak>", "[[h@l'oU]]", "\x01\x02 \u2028 \ufeff", "😀 👩‍🚀", "a" * 3_000, "你" * 900,
        "-v klingon", "\\n\\0", "１２３４", "مرحبا بالعالم", "%s%n" * 50, "\ud7ff \uffff",
    ]  # fmt: skip
    for text in texts:
        await asyncio.wait_for(spoken(voice, text), 10)
    assert pcm_of(await spoken(voice, HELLO)) and len(children()) == 1
    whole = [
        len(pcm_of(await spoken(voice, text))) for text in ("Good day to you all.", "Good\0 day to you \ud800all.")
    ]
    assert whole[1] > 0.8 * whole[0], "words after a NUL must be spoken"
    for text in ("It costs $12.50 a day.", "Hi 😀 there 👩 you"):
        words = [word for sound in await spoken(voice, text) for word in sound.words]
        assert words and all(word.text.strip() for word in words)
    await voice.aclose()


async def test_at_most_four_espeak_processes_run_and_they_are_reused() -> None:
    voice = open_voice("main", VoiceAddress("espeak:"))
    await asyncio.gather(*(spoken(voice, HELLO * 5) for _ in range(40)))
    assert 1 <= len(children()) <= AT_ONCE
    before = {one.pid for one in children()}
    await spoken(voice, HELLO)
    assert {one.pid for one in children()} == before
    await voice.aclose()
    assert not children()


async def test_another_process_speaks_a_sentence_if_one_dies_before_any_sound() -> None:
    voice = open_voice("main", VoiceAddress("espeak:"))
    await voice.prewarm()
    os.kill(children()[0].pid, signal.SIGKILL)
    assert pcm_of(await spoken(voice, HELLO))
    [child] = children()
    child.suspend()
    speaking = asyncio.create_task(spoken(voice, HELLO))
    await asyncio.sleep(0.05)
    child.kill()
    # The process died, but it had sent no sound of the sentence: another process speaks it.
    assert pcm_of(await asyncio.wait_for(speaking, 5))
    await voice.aclose()


async def test_a_sentence_that_kills_every_process_is_an_error() -> None:
    voice = open_voice("main", VoiceAddress("espeak:"))
    await voice.prewarm()

    async def doomed() -> None:
        while True:
            for child in children():
                child.kill()
            await asyncio.sleep(0.001)

    killing = asyncio.create_task(doomed())
    with pytest.raises(VoiceError, match="The voice 'main' (failed|does not start)") as failed:
        for _ in range(50):
            await spoken(voice, HELLO * 100)
    killing.cancel()
    assert failed.value.kind == "failed" and pcm_of(await spoken(voice, HELLO))
    await voice.aclose()


async def test_closing_a_voice_stops_the_sentences_that_it_speaks() -> None:
    voice = open_voice("main", VoiceAddress("espeak:"))
    speaking = [asyncio.create_task(spoken(voice, HELLO * 20)) for _ in range(9)]
    await until(lambda: bool(children()))
    await voice.aclose()
    assert not children()
    found = await asyncio.gather(*speaking, return_exceptions=True)
    assert {type(one) for one in found} <= {list, VoiceError}
    assert not children()


async def test_a_barge_in_kills_the_process_that_speaks() -> None:
    voice = open_voice("main", VoiceAddress("espeak:"))
    await voice.prewarm()
    [child] = children()
    child.suspend()  # so that the sentence is certainly not finished
    speaking = asyncio.create_task(spoken(voice, HELLO))
    await asyncio.sleep(0.05)
    speaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await speaking
    await until(lambda: not children())
    assert pcm_of(await spoken(voice, HELLO))
    await voice.aclose()


async def test_espeak_processes_end_with_the_server() -> None:
    program = (
        "import asyncio, sys\n"
        "from dialgraph.speech.port import VoiceAddress, open_voice\n"
        "async def main():\n"
        "    voice = open_voice('main', VoiceAddress('espeak:'))\n"
        "    await voice.prewarm()\n"
        "    print(voice._idle[0]._process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    await parent.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


# Speech servers over HTTP.


def opened(up: Upstream, **fields: Any) -> Voice:
    """Open a voice of this speech server."""
    usual: dict[str, Any] = {"connect_seconds": 1.0, "first_byte_seconds": 0.3, "idle_seconds": 0.3}
    return open_voice("main", VoiceAddress(up.url, "tts", "anna", SecretStr("key-0123456789"), **usual | fields))


async def test_a_speech_server_is_asked_as_openai_documents_it() -> None:
    async with upstream() as up:
        up.choose = tone_script
        voice = opened(up)
        await spoken(voice, HELLO)
        await spoken(voice, HELLO, "bert")
        await voice.aclose()
    assert up.exchanges[0].path == "/v1/audio/speech"
    assert up.bodies[0] == {"model": "tts", "input": HELLO, "voice": "anna", "response_format": "pcm"}
    assert up.bodies[1]["voice"] == "bert" and up.connections == 1
    assert up.exchanges[0].headers["authorization"] == "Bearer key-0123456789"


async def test_sound_is_passed_on_while_the_server_still_produces_it() -> None:
    heard = asyncio.Event()
    first, second = b"\1\2" * 4800, b"\3\4" * 4800
    async with upstream([("type", "audio/pcm"), ("raw", first), ("wait", heard), ("raw", second)]) as up:
        voice = opened(up)
        async with aclosing(voice.speak(HELLO)) as sounds:
            assert (await anext(sounds)).pcm == b"\1\2" * 4800
            heard.set()
            assert pcm_of([sound async for sound in sounds]) == b"\3\4" * 4800
        await voice.aclose()


async def test_a_wav_of_another_rate_is_resampled() -> None:
    quiet = b"\x10\0" * 44_100
    tail = b"LIST" + bytes(5_000)  # another chunk after the sound
    script: list[Action] = [("type", "audio/wav"), ("raw", header(44_100, len(quiet))), ("raw", quiet + tail)]
    async with upstream(script) as up:
        voice = opened(up)
        assert len(pcm_of(await spoken(voice, HELLO))) == 48_000
        await voice.aclose()


FAILURES: list[tuple[list[Action], str, str]] = [
    ([("status", 401, {}, b"key-0123456789")], "unauthorized", "answered with status 401"),
    ([("status", 429, {}, b"")], "rate_limited", "answered with status 429"),
    ([("status", 400, {}, b"no such voice")], "rejected", "answered with status 400"),
    ([("status", 500, {}, b"Traceback")], "failed", "answered with status 500"),
    ([("status", 302, {"location": "http://127.0.0.1:1/"}, b"")], "malformed", "answered with status 302"),
    ([("hang",)], "timeout", "did not begin to answer in time"),
    ([("type", "audio/pcm"), ("raw", b"\1\2" * 99), ("hang",)], "stalled", "stopped sending data"),
    ([("type", "audio/pcm"), ("raw", b"\1\2" * 99), ("rst",)], "incomplete", "was cut off"),
    ([("type", "audio/pcm"), ("raw", b"\1\2" * 99), ("fin",)], "incomplete", "was cut off"),
    (
        [("type", "application/json"), ("raw", b'{"error": "x"}')],
        "malformed",
        "sent 'application/json'. Accepted: raw",
    ),
    ([("type", "audio/pcm"), ("headers",)], "malformed", "sent no sound"),
    ([("type", "audio/mpeg"), ("raw", b"ID3\4" * 99)], "malformed", "sent 'audio/mpeg'. Accepted: raw PCM or WAV"),
    ([("type", "audio/pcm"), ("raw", b"ID3\4" * 99)], "malformed", "sent compressed sound"),
    ([("type", "audio/wav"), ("raw", b"RIFF\0\0\0\0AVI LIST")], "malformed", "sent a WAV that has no RIFF header"),
    ([("type", "audio/wav"), ("raw", b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f" + bytes(70_000))], "malformed", "without"),
]


@pytest.mark.parametrize(("script", "kind", "said"), FAILURES)
async def test_a_failure_is_reported_without_the_words_of_the_speech_server(
    script: list[Action], kind: str, said: str
) -> None:
    async with upstream(default=script) as up:
        voice = opened(up)
        with pytest.raises(VoiceError, match=said) as failed:
            await asyncio.wait_for(spoken(voice, HELLO), 5)
        assert failed.value.kind == kind
        assert "0123456789" not in str(failed.value) and "Traceback" not in str(failed.value)
        up.default = []
        up.choose = tone_script
        assert pcm_of(await spoken(voice, HELLO))
        await voice.aclose()


@pytest.mark.parametrize("hiccup", [("status", 503, {}, b""), ("status", 500, {}, b""), ("fin",)], ids=str)
async def test_a_failure_before_the_first_sound_is_retried_once(hiccup: Action) -> None:
    sound: list[Action] = [("type", "audio/pcm"), ("raw", b"\1\2" * 24_000)]
    async with upstream([hiccup], sound, default=[("status", 503, {}, b"")]) as up:
        voice = opened(up)
        assert pcm_of(await spoken(voice, HELLO)) == b"\1\2" * 24_000 and len(up.exchanges) == 2
        with pytest.raises(VoiceError, match="answered with status 503"):
            await spoken(voice, HELLO)
        assert len(up.exchanges) == 4, "each sentence must be tried twice at most"
        await voice.aclose()


@pytest.mark.parametrize("headers", [[], [("headers",)]], ids=["before the headers", "after the headers"])
async def test_the_first_sound_may_take_longer_than_the_next(headers: list[Action]) -> None:
    sound: list[Action] = [("type", "audio/pcm"), *headers, ("sleep", 0.5), ("raw", b"\1\2" * 9_000)]
    async with upstream(sound, [("type", "audio/pcm"), *headers, ("hang",)]) as up:
        voice = opened(up, connect_seconds=1.0, first_byte_seconds=1.0, idle_seconds=0.2)
        assert len(pcm_of(await spoken(voice, HELLO))) == 18_000
        began = time.perf_counter()
        with pytest.raises(VoiceError) as failed:
            await spoken(voice, HELLO)
        assert failed.value.kind == ("stalled" if headers else "timeout")
        assert 0.9 < time.perf_counter() - began < 10
        await voice.aclose()


async def test_a_speech_server_that_is_away_is_unreachable() -> None:
    async with upstream() as up:
        url = up.url
    voice = open_voice("main", VoiceAddress(url))
    await voice.prewarm()
    with pytest.raises(VoiceError, match="cannot be reached") as failed:
        await spoken(voice, HELLO)
    assert failed.value.kind == "unreachable"
    await voice.aclose()


async def test_sound_without_an_end_for_one_sentence_is_an_error() -> None:
    script: list[Action] = [("type", "audio/pcm"), *[("raw", bytes(2**20))] * 20]
    async with upstream(script) as up:
        voice = opened(up)
        with pytest.raises(VoiceError, match="more than 300 s for one sentence"):
            await spoken(voice, HELLO)
        await voice.aclose()


async def test_a_barge_in_closes_the_request() -> None:
    async with upstream([("type", "audio/pcm"), ("raw", b"\1\2" * 99), ("hang",)], [("hang",)]) as up:
        voice = opened(up, connect_seconds=3.0, first_byte_seconds=5.0, idle_seconds=3.0)
        async with aclosing(voice.speak(HELLO)) as sounds:
            await anext(sounds)
            left = time.monotonic()
        await up.until(lambda: up.exchanges[0].left is not None)
        assert (up.exchanges[0].left or 0) - left < 0.05
        waiting = asyncio.create_task(spoken(voice, HELLO))
        await up.until(lambda: len(up.exchanges) == 2)
        waiting.cancel()
        await up.until(lambda: up.exchanges[1].left is not None)
        await voice.aclose()


@pytest.mark.parametrize("rates", [(22_050, 16_000), (24_000, 16_000), (16_000, 16_000), (8_000, 48_000)])
def test_pieces_are_resampled_as_one_whole_sound(rates: tuple[int, int]) -> None:
    pcm = b"".join(int(9000 * (at % 50 / 25 - 1)).to_bytes(2, "little", signed=True) for at in range(rates[0]))
    whole = Resampler(*rates).feed(pcm, last=True)
    pieces = Resampler(*rates)
    parts = [pieces.feed(pcm[at : at + 998]) for at in range(0, len(pcm), 998)]
    joined = samples_of(b"".join([*parts, pieces.feed(b"", last=True)]))
    assert np.abs(joined - samples_of(whole)).max() < 3 / 32768  # dither
    assert abs(len(whole) // 2 - rates[1]) <= 2
