"""When the sound of an endpoint arrives. The server and its voice run on one core.

The model is `benchmarks/upstream.py` at 50 tokens a second.

- First sound: the time from the end of the model's first sentence to the first frame.
- Pacing, with 50 streams at the same time: how far each frame is from its ideal time, which follows from real time and
  the lead of 0.2 s. The median frame of a stream sets its clock.
- Breaking in: the time from the client's reset to the closed request at a voice server in the middle of a sentence.
"""

import asyncio
import os
import re
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import quote

import aiohttp
import numpy as np

from benchmarks.hot_path import started, wait_until_ready
from dialgraph.speech.port import VoiceAddress, open_voice
from dialgraph.turn.pacing import LEAD_SECONDS

SENTENCES = (
    "The winter garden on the ground floor serves breakfast from seven to half past ten.",
    "On Sundays and holidays it is open until eleven, and children under six eat for free.",
    "If you have to leave earlier, just tell us the evening before, and we will pack a bag for you.",
)
_PAUSE = 0.02
_FRAME = 0.04
_FIRST, _STREAMS, _CANCELS = 30, 50, 200


@contextmanager
def _server(voice: str = "") -> Iterator[str]:
    """Start our server on one core and the model on another. Yield the URL of the server."""
    with ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory())
        port, model = stack.enter_context(started([sys.executable, "-m", "benchmarks.upstream"], r"(\d+)", {}))
        environment = {
            "LLM_BASE_URL": f"http://127.0.0.1:{port}",
            "DIALGRAPH_DATA_DIR": data,
            "DIALGRAPH_AUTH": "none",
            "DIALGRAPH_LOG_LEVEL": "warning",
        }
        if voice:
            environment["DIALGRAPH_VOICES__MAIN__URL"] = voice
        ours, process = stack.enter_context(
            started([sys.executable, "-m", "server.cli", "serve", "--port", "0"], r"(http\S+)", environment)
        )
        if hasattr(process, "cpu_affinity"):
            process.cpu_affinity([0])
            model.cpu_affinity([max(os.sched_getaffinity(0))])
        wait_until_ready(f"{ours}/ready")
        yield ours


def _body(text: str) -> dict[str, object]:
    return {
        "messages": [{"role": "user", "content": "When is breakfast?"}],
        "stream": True,
        "user": f"?pause={_PAUSE}&text={quote(text)}",
    }


async def _frames(session: aiohttp.ClientSession, base: str, text: str) -> tuple[float, list[float]]:
    """Return when the request was sent, and when each frame arrived."""
    began, times = time.perf_counter(), list[float]()
    async with session.post(f"{base}/audio/chat/completions", json=_body(text)) as response:
        assert response.status == 200, await response.text()
        async for block in response.content.iter_any():
            times += [time.perf_counter()] * block.count(b'"data":"')
    return began, times


async def _first_sounds(base: str) -> list[float]:
    """Return the milliseconds from the end of the model's first sentence to the first frame."""
    said = len(re.findall(r"\S+", SENTENCES[0])) * _PAUSE
    found = []
    async with aiohttp.ClientSession() as session:
        for _ in range(_FIRST):
            began = time.perf_counter()
            body = _body(" ".join(SENTENCES))
            async with session.post(f"{base}/audio/chat/completions", json=body) as response:
                async for block in response.content.iter_any():
                    if b'"data":"' in block:
                        break
            found.append((time.perf_counter() - began - said) * 1000)
    return found


async def _pacing_errors(base: str, streams: int) -> tuple[list[float], float]:
    """Return the error of each frame, and the longest time that a caller heard nothing because a frame was late, in
    milliseconds.
    """
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(number: int) -> list[float]:
            await asyncio.sleep(number * 0.013)  # callers do not all call at the same moment
            return (await _frames(session, base, " ".join(SENTENCES)))[1]

        every = await asyncio.gather(*(one(number) for number in range(streams)))
    errors, late = [], 0.0
    for times in every:
        off = [came - max(0.0, at * _FRAME - LEAD_SECONDS) for at, came in enumerate(times)]
        clock = statistics.median(off)
        errors += [abs(one - clock) * 1000 for one in off]
        late = max(late, *(came - times[0] - at * _FRAME for at, came in enumerate(times)))
    return errors, late * 1000


class _SlowVoice:
    """A server with `/audio/speech` that speaks without end, and records when each client left."""

    def __init__(self) -> None:
        self.gone: list[float] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
                writer.close()
                return
            length = re.search(rb"content-length: (\d+)", head.lower())
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: audio/pcm\r\ntransfer-encoding: chunked\r\n\r\n")
            speaking = asyncio.create_task(self._speak(writer))
            try:
                await reader.read(1)
            except ConnectionError:
                pass
            finally:
                self.gone.append(time.perf_counter())
                speaking.cancel()
                writer.close()

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"%x\r\n%b\r\n" % (960, bytes(960)))
                await writer.drain()
                await asyncio.sleep(_PAUSE)


async def _cancellations(base: str, listener: socket.socket) -> list[float]:
    """Return the milliseconds from a client's reset to the end of the request for its sentence."""
    found = []
    voice = _SlowVoice()
    server = await asyncio.start_server(voice.serve, sock=listener)
    host, _, port = base.removeprefix("http://").partition(":")
    for _ in range(_CANCELS):
        reader, writer = await asyncio.open_connection(host, int(port))
        body = b'{"stream":true,"messages":[{"role":"assistant","content":"A very long sentence."}]}'
        head = f"POST /audio/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: {len(body)}\r\n"
        writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        while b'"data":"' not in (line := await reader.readline()):
            assert line, "the answer ended without sound"
        before, left = len(voice.gone), time.perf_counter()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        while len(voice.gone) == before:  # noqa: ASYNC110  # the recorded time counts, not when it is read
            await asyncio.sleep(0.0005)
        found.append((voice.gone[-1] - left) * 1000)
    server.close()
    return found


async def _loop_delay() -> float:
    """Return the worst delay of the loop, in milliseconds, while this process has four long texts spoken."""
    voice = open_voice("main", VoiceAddress("espeak:"))
    worst, done = 0.0, False

    async def tick() -> None:
        nonlocal worst
        while not done:
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - begun - 0.001)

    async def speak() -> None:
        for _ in range(20):
            async for _sound in voice.speak(" ".join(SENTENCES)):
                await asyncio.sleep(0)

    await voice.prewarm()
    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(speak() for _ in range(4)))
    done = True
    await ticking
    await voice.aclose()
    return worst * 1000


def _p99(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.99))


def measure() -> list[str]:
    """Return the table, as Markdown lines."""
    with _server() as base:
        first = asyncio.run(_first_sounds(base))
        errors, late = asyncio.run(_pacing_errors(base, _STREAMS))
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, _server(f"http://127.0.0.1:{listener.getsockname()[1]}/v1") as base:
        cancelled = asyncio.run(_cancellations(base, listener))
    delay = asyncio.run(_loop_delay())
    rows = [
        ("first frame behind the first sentence", "≤ 150 ms", statistics.median(first), max(first)),
        (f"pacing error, {_STREAMS} streams", "p99 ≤ 20 ms", statistics.median(errors), _p99(errors)),
        ("a frame behind its moment, the worst", "below the lead, else a gap", 0.0, late),
        ("breaking in, in the middle of a sentence", "p99 ≤ 50 ms", statistics.median(cancelled), _p99(cancelled)),
    ]  # fmt: skip
    lines = ["| measured | asked | median | p99 (the worst, where one is named) |", "|---|---|---|---|"]
    lines += [f"| {what} | {asked} | {median:.1f} ms | {worst:.1f} ms |" for what, asked, median, worst in rows]
    lines.append(f"| the loop's worst delay, four sentences at once | ≤ 50 ms | | {delay:.1f} ms |")
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(measure()) + "\n")
