"""Random streams of chat completions with every oddity that servers are known for, each with its meaning.

The meaning is known because it is chosen first: the words, the tool calls and the end. Then each is written in one of
many ways.
"""

import asyncio
import gzip
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.serving import Reply, serving
from tests.support.upstream import Action, upstream
from tests.support.wire import read_stream

AT_ONCE = 20
WORDS = ("Hello ", "there. ", "你好。", "It is 3 < 4. ", "a\u2028b ", "\U0001f600 ", "\\", '"quoted" ', "\n")
TOOLS = ("weather", "get_time", "end_call")
TOOL_LIST = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in TOOLS]
NOISE = (
    b": ping\n\n", b"data: \n\n", b"data:\n\n", b"event: ping\ndata: \n\n", b"id: 7\nretry: 3\n\n", b"\n",
    b'data: {"type": "ping"}\n\n', b'data: {"choices": []}\n\n', b'data: {"choices": [{"delta": {}}]}\n\n',
    b'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\n\n',
    b'data: {"choices": [{"delta": null, "finish_reason": null}], "usage": null}\n\n',
    b'data: {"choices": [{"delta": {"content": ""}, "finish_reason": ""}]}\n\n',
)  # fmt: skip
UNREADABLE = (
    b"data: processing\n\n", b"data: : ping\n\n", b"data: []\n\n", b"data: 7\n\n", b"data: {broken\n\n",
    b'data: {"choices": [7]}\n\n', b'data: {"choices": [{"delta": "x"}]}\n\n',
    b'data: {"choices": [{"delta": {"content": 7}}]}\n\n',
)  # fmt: skip


@dataclass
class Meant:
    """The meaning of a stream: what a tolerant reader must find in it."""

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    finish: str = "stop"
    fails: bool = False


def _event(data: Any) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def _delta(delta: Any, **more: Any) -> bytes:
    return _event({"id": "x", "choices": [{"index": 0, "delta": delta, **more}]})


def _word(dice: random.Random, word: str) -> bytes:
    """Return one word, in one of the forms that servers use."""
    forms = [
        lambda: _delta({"content": word}),
        lambda: _delta({"role": "assistant", "content": word}, finish_reason=None),
        lambda: _delta({"content": [{"type": "text", "text": word}]}),
        lambda: _delta({"content": [word]}),
        lambda: _event({"choices": [{"message": {"role": "assistant", "content": word}}]}),
        lambda: _event({"choices": [{"text": word}]}),
        lambda: _event(
            {"id": None, "created": "x", "choices": [{"index": "0", "delta": {"role": 7, "content": word}}]}
        ),
        lambda: b'data: {"choices":[{"logprobs":NaN,"delta":{"content":' + json.dumps(word).encode() + b"}}]}\n\n",
        lambda: _delta({"content": word}, finish_reason="null"),
        lambda: _event(
            {"choices": [{"delta": {"content": word}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        ),
    ]
    return dice.choice(forms)()


def _pieces(dice: random.Random, text: str) -> list[str]:
    cuts = sorted(dice.randrange(len(text) + 1) for _ in range(dice.randrange(4)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def _calls(dice: random.Random, meant: Meant) -> list[bytes]:
    """Return the tool calls, all in the same form."""
    form = dice.choice(["plain", "whole", "all 0", "no index", "object", "repeated", "late name", "legacy", "ids"])
    if form == "legacy":
        del meant.calls[1:]
    found: list[bytes] = []
    for at, (name, arguments) in enumerate(meant.calls):
        text = json.dumps(arguments)
        if form == "legacy":
            found.append(_delta({"function_call": {"name": name, "arguments": ""}}))
            found += [_delta({"function_call": {"arguments": piece}}) for piece in _pieces(dice, text)]
            continue
        index: dict[str, Any] = {} if form == "no index" else {"index": 0 if form == "all 0" else at}
        identity = {"id": "" if form == "all 0" else f"id{at}"}
        if form in ("whole", "all 0"):
            parts = [{**index, **identity, "function": {"name": name, "arguments": text}}]
        elif form == "object":
            parts = [{**index, **identity, "function": {"name": name, "arguments": arguments}}]
        elif form == "late name":
            parts = [
                {**index, **identity, "function": {"arguments": text[:1]}},
                {**index, "function": {"name": name, "arguments": text[1:]}},
            ]
        else:
            parts = [{**index, **identity, "type": "function", "function": {"name": name, "arguments": ""}}]
            again = identity if form == "ids" else {}
            parts += [{**index, **again, "function": {"arguments": piece}} for piece in _pieces(dice, text)]
            if form == "repeated":
                parts.append({**index, "function": {"arguments": text}})
        found += [_delta({"tool_calls": [part]}) for part in parts]
    return found


def _end(dice: random.Random, meant: Meant) -> list[bytes]:
    finish = dice.choice(["stop", "STOP", "end_turn", "tool_calls"] if meant.calls else ["stop", "STOP", "length"])
    meant.finish = "tool_calls" if meant.calls else "length" if finish == "length" else "stop"
    said = _delta(dice.choice([{}, None, {"content": ""}]), finish_reason=finish)
    usage = _event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
    done = dice.choice([b"data: [DONE]\n\n", b"data:[DONE]\n\n", b'data: "[DONE]"\n\n', b"data: [DONE]"])
    ways = [[said, done], [said, usage, done], [usage, said, done], [said], [said, usage], [done], [said, said, done]]
    way = dice.choice(ways)
    if way == [done]:
        meant.finish = "tool_calls" if meant.calls else "stop"
    behind = [b"data: {broken\n\n", _event({"error": {"code": 500}}), b"data: x", _delta({"content": 7})]
    return [*way, *([dice.choice(behind)] if said in way and dice.random() < 0.2 else [])]


def stream(seed: int) -> tuple[list[Action], Meant]:
    """Return a script for the upstream, and its meaning."""
    dice = random.Random(seed)
    meant = Meant()
    events: list[bytes] = []

    def noise() -> None:
        for _ in range(dice.randrange(3)):
            events.append(dice.choice(NOISE))
        if dice.random() < 0.3:
            events.extend(dice.choice(UNREADABLE) for _ in range(dice.randrange(1, 3)))

    for word in [dice.choice(WORDS) for _ in range(dice.randrange(6))]:
        noise()
        events.append(_word(dice, word))
        meant.text += word
    if not meant.text or dice.random() < 0.4:
        meant.calls = [(dice.choice(TOOLS), {"n": at}) for at in range(dice.randrange(1, 4))]
        noise()
        events += _calls(dice, meant)
    noise()
    fault = dice.random()
    if fault < 0.05:
        meant.fails = True  # the stream ends without an end event
    elif fault < 0.1:
        meant.fails = True
        events += [_delta({"content": ""}), *dice.choices(UNREADABLE, k=3), *_end(dice, meant)]
    elif fault < 0.15:
        meant.fails = True
        events.append(_event({"error": {"message": "x", "code": dice.choice([500, "overloaded", None])}}))
    else:
        events += _end(dice, meant)
        meant.fails = not meant.calls and not meant.text.strip()
    data = b"".join(events)
    end = dice.choice([b"\n", b"\n", b"\r\n", b"\r"])
    data = (dice.choice([b"", b"\xef\xbb\xbf"]) + data).replace(b"\n", end)
    if dice.random() < 0.1:
        return [
            ("status", 200, {"content-type": "text/event-stream", "content-encoding": "gzip"}, gzip.compress(data))
        ], meant
    cuts = sorted(dice.randrange(len(data)) for _ in range(dice.randrange(4)))
    raw: list[Action] = [("raw", data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]
    return [
        ("type", dice.choice(["text/event-stream", "text/event-stream", "text/plain", "application/json"])),
        *raw,
    ], meant


def check(seed: int, reply: Reply, meant: Meant) -> None:
    """Check that the reply is legal and has the meaning of the stream."""
    if reply.status != 200:
        assert meant.fails and not meant.text.strip(), (seed, reply.body)
        assert reply.error["code"].startswith("upstream_"), seed
        return
    answer = read_stream(reply.body)
    assert answer.text == meant.text, (seed, answer.text, meant.text)
    assert (answer.error is not None) == meant.fails, (seed, answer.error)
    if not meant.fails:
        assert [(one["name"], json.loads(one["arguments"])) for one in answer.tool_calls] == meant.calls, seed
        assert answer.finish == meant.finish, (seed, answer.finish, meant.finish)


async def try_out(folder: Path, seeds: Iterable[int]) -> int:
    """Send each stream through the server. Return the number of streams."""
    waiting = asyncio.Semaphore(AT_ONCE)
    scripts: dict[str, list[Action]] = {}
    async with upstream() as up, serving(folder, models={"main": {"url": up.url, "away_seconds": 0}}) as served:
        up.choose = lambda body: scripts.pop(body["user"])

        async def one(seed: int) -> None:
            async with waiting:
                scripts[str(seed)], meant = stream(seed)
                reply = await served.ask(user=str(seed), tools=TOOL_LIST)
                check(seed, reply, meant)
                if seed % 100 == 0:
                    up.exchanges.clear()
                    served.connections.clear()

        tried = 0
        batch: list[int] = []
        for seed in [*seeds, None]:
            if seed is not None:
                batch.append(seed)
            if batch and (seed is None or len(batch) == 1000):
                await asyncio.gather(*map(one, batch))
                tried += len(batch)
                batch = []
    return tried
