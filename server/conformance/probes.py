"""Sends requests to a server and notes which rules its answers keep."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from server.conformance.read import Reading, read_stream
from server.conformance.rules import RULES, Finding

LONGEST_SECONDS = 60.0
SLOWEST_FIRST_BYTE_SECONDS = 8.0
SUFFIX = "/chat/completions"
_STREAM_RULES = (
    "answers", "framing", "json", "id", "created", "model", "object", "choices", "index", "delta", "role", "one-kind",
    "finish", "done", "error-key",
)  # fmt: skip


@dataclass
class Reply:
    """One whole answer."""

    status: int
    content_type: str
    body: bytes
    first_byte: float
    """In seconds after the request."""


@dataclass
class Target:
    """The server to check."""

    url: str
    """The URL of its chat completions."""
    key: str = field(default="", repr=False)
    model: str = ""
    say: str = "Hello!"
    bye: str = "Thank you, goodbye!"


def completions_url(url: str) -> str:
    """Return the URL of chat completions for a base URL or for the whole one."""
    url = url.rstrip("/")
    return url if url.endswith(SUFFIX) else url + SUFFIX


async def check(target: Target) -> list[Finding]:
    """Check all rules and return a finding for each. Raises aiohttp.ClientConnectorError if no server answers."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LONGEST_SECONDS)) as session:
        probe = _Probe(session, target)
        await probe.run()
    return [probe.findings.get(rule, Finding(rule, "not seen")) for rule in RULES]


class _Probe:
    def __init__(self, session: aiohttp.ClientSession, target: Target) -> None:
        self._session = session
        self._target = target
        self._met = False
        """Whether the server has answered once. After that, a connection that breaks counts against the server."""
        self.findings: dict[str, Finding] = {}

    async def run(self) -> None:
        """Run all probes one after the other, so that they do not disturb each other."""
        first = await self._ask(self._body())
        self._note("answers", first.status == 200, f"status {first.status}")
        if first.status == 200:
            self._stream_kind(first)
            slow = first.first_byte > SLOWEST_FIRST_BYTE_SECONDS
            self._note("first-byte", not slow, f"{first.first_byte:.2f} s")
            one = read_stream(first.body)
            self._stream_rules(one)
            await self._second(one)
            await self._tools()
            await self._whole()
            await self._extras()
            await self._leaving()
        await self._errors()
        await self._key()
        await self._models()

    def _stream_kind(self, reply: Reply) -> None:
        streams = reply.content_type.startswith("text/event-stream")
        self._note("event-stream", streams, f"Content-Type {reply.content_type!r}")

    def _stream_rules(self, reading: Reading) -> None:
        for rule in (*_STREAM_RULES, "usage"):
            self._note(rule, rule not in reading.breaches, reading.breaches.get(rule, ""))

    async def _second(self, one: Reading) -> None:
        """Send the same request again, with usage."""
        reply = await self._ask(self._body(stream_options={"include_usage": True}))
        two = read_stream(reply.body, wants_usage=True)
        self._note("ids-differ", bool(one.id) and one.id != two.id, f"{one.id!r} twice")
        self._stream_rules(two)
        if "usage" not in two.breaches and two.usage is None:
            self._note("usage", False, "usage was requested but not sent")

    async def _tools(self) -> None:
        about = "End the phone call. Call it when the caller says goodbye."
        tool = {"name": "hangup", "description": about, "parameters": {"type": "object", "properties": {}}}
        body = self._body(self._target.bye, tools=[{"type": "function", "function": tool}])
        reading = read_stream((await self._ask(body)).body)
        self._stream_rules(reading)
        if reading.calls:
            for rule in ("tool-call", "tool-finish"):
                self._note(rule, rule not in reading.breaches, reading.breaches.get(rule, ""))

    async def _whole(self) -> None:
        reply = await self._ask(self._body(stream=False))
        body = _json(reply.body)
        right = reply.status == 200 and body.get("object") == "chat.completion" and bool(body.get("choices"))
        if reply.status == 400 and "stream" in str(body.get("error")):
            return  # the server only sends streams, and says so
        self._note("whole", right, f"status {reply.status}, {reply.content_type!r}")

    async def _extras(self) -> None:
        host = {"turn_id": 1, "timestamp": 1, "metadata": {"source": "greeting"}}
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        messages = [
            {"role": "developer", "content": "Be brief."},
            {"role": "assistant", "content": "Hello.", **host},
            {"role": "user", "content": [{"type": "text", "text": self._target.say}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "1"},
            {"role": "user", "content": self._target.say, "created_at": 1},
        ]
        hosts: dict[str, Any] = {
            "user_id": "u", "context": {"presence": {}}, "metadata": {"source": "asr"}, "tools": None,
            "stream_options": None, "extra_unknown_field": {"a": 1}, "max_completion_tokens": 50,
        }  # fmt: skip
        reply = await self._ask({**self._body(), "messages": messages, **hosts})
        self._note("extras", reply.status == 200, f"status {reply.status}: {_message(reply.body)}")

    async def _leaving(self) -> None:
        """Let ten clients leave at the first byte, then check that one more gets its answer."""

        async def leave() -> None:
            async with self._post(orjson.dumps(self._body())) as response:
                await response.content.readany()
                response.close()

        await asyncio.gather(*(leave() for _ in range(10)), return_exceptions=True)
        reply = await self._ask(self._body())
        self._note(
            "leaving",
            reply.status == 200 and not read_stream(reply.body).breaches.get("done"),
            "the next request fails",
        )

    async def _errors(self) -> None:
        bodies: list[object] = ["none", []]
        empty = [{**self._body(), "messages": messages} for messages in bodies]
        bad = [b"{", *map(orjson.dumps, empty)]
        for body in bad:
            reply = await self._ask(body)
            error = _json(reply.body).get("error")
            envelope = isinstance(error, dict) and {"message", "type", "param", "code"} <= set(error)
            right = 400 <= reply.status < 500 and envelope
            self._note("errors", right, f"{body[:24]!r}: status {reply.status}, {reply.body[:60]!r}")

    async def _key(self) -> None:
        if self._target.key:
            reply = await self._ask(self._body(), headers={"Authorization": "Bearer wrong-" + "x" * 20})
            self._note("unauthorized", reply.status == 401, f"status {reply.status} for a wrong key")

    async def _models(self) -> None:
        url = self._target.url.removesuffix(SUFFIX) + "/models"
        reply = await self._read(self._session.get(url, headers=self._headers()))
        self._note("models", reply.status == 200 and bool(_json(reply.body).get("data")), f"status {reply.status}")

    def _body(self, say: str = "", **fields: Any) -> dict[str, Any]:
        model = {"model": self._target.model} if self._target.model else {}
        message = {"role": "user", "content": say or self._target.say}
        return {**model, "messages": [message], "stream": True, **fields}

    def _headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self._target.key}"} if self._target.key else {}
        return {"Content-Type": "application/json", "Accept": "application/json", **key}

    def _post(self, body: bytes, headers: Mapping[str, str] | None = None) -> Any:
        return self._session.post(self._target.url, data=body, headers={**self._headers(), **(headers or {})})

    async def _ask(self, body: Mapping[str, Any] | bytes, headers: Mapping[str, str] | None = None) -> Reply:
        return await self._read(self._post(body if isinstance(body, bytes) else orjson.dumps(body), headers))

    async def _read(self, request: Any) -> Reply:
        """Return the answer, as far as it came. If the connection breaks, note a broken rule and do not raise."""
        began = time.monotonic()
        reply = Reply(0, "", b"", 0.0)
        try:
            async with request as response:
                self._met = True
                reply.status, reply.content_type = response.status, response.headers.get("Content-Type", "")
                while piece := await response.content.readany():
                    reply.first_byte = reply.first_byte or time.monotonic() - began
                    reply.body += piece
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) and not self._met:
                raise
            self._met = True
            self._note("whole-answer", False, f"{type(error).__name__} after {len(reply.body)} bytes")
        else:
            self._note("whole-answer", True, "")
        return reply

    def _note(self, rule: str, kept: bool, seen: str) -> None:
        """Note a finding. A rule that was broken once stays broken."""
        if kept:
            self.findings.setdefault(rule, Finding(rule, "kept"))
        elif rule not in self.findings or self.findings[rule].verdict == "kept":
            self.findings[rule] = Finding(rule, "broken", seen)


def _json(body: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return data if isinstance(data, dict) else {}


def _message(body: bytes) -> str:
    return " ".join(_words(_json(body)))[:80]


def _words(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _words(one)
    elif isinstance(value, str):
        yield value
