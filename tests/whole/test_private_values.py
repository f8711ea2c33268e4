"""Two hundred private values in every field of every route: none of them is in any log, record, trace or metric."""

import asyncio
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dialgraph.language.guard import luhn_is_right
from server.logs import JsonFormatter, LineFormatter
from tests.support.accounts import form
from tests.support.commands import run
from tests.support.otlp import receiver
from tests.support.serving import Served, serving
from tests.support.upstream import calls, says, upstream


def canaries() -> list[str]:
    """Return 200 values: cards, phone numbers, e-mail addresses and keys, 50 of each."""
    chance = random.Random(7)
    cards: list[str] = []
    while len(cards) < 50:
        digits = "4" + "".join(str(chance.randrange(10)) for _ in range(15))
        if luhn_is_right(digits):
            cards.append(digits if len(cards) % 2 else " ".join(digits[at : at + 4] for at in range(0, 16, 4)))
    phones = [f"+49 17{chance.randrange(10)} {chance.randrange(10**6, 10**7)}" for _ in range(50)]
    emails = [f"canary_{chance.randrange(10**8):08x}@mail-{chance.randrange(999)}.example.com" for _ in range(50)]
    keys = [f"sk-proj-{chance.randrange(16**20):020x}" for _ in range(50)]
    return [*cards, *phones, *emails, *keys]


VALUES = canaries()


def fields(values: Iterator[str]) -> dict[str, Any]:
    """Return the fields of a request, with a value in each place where a text can be."""
    tool = {"name": "look", "description": next(values), "parameters": {"type": "object", "title": next(values)}}
    called = {"name": "look", "arguments": json.dumps({"q": next(values)})}
    call = {"id": "c1", "type": "function", "function": called}
    return {
        "model": next(values),
        "user": next(values),
        "call_id": next(values),
        "caller_number": next(values),
        "metadata": {"note": next(values), next(values): [next(values)]},
        "stop": [next(values)],
        "tools": [{"type": "function", "function": tool}],
        "messages": [
            {"role": "system", "content": f"The caller is {next(values)}."},
            {"role": "user", "name": "ann", "content": f"I am {next(values)}"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": next(values)},
            {"role": "user", "content": [{"type": "text", "text": f"Call {next(values)} or {next(values)}"}]},
        ],
    }  # fmt: skip


async def live(served: Served, values: Iterator[str]) -> None:
    """Send the values on every route that takes a text."""

    def headers() -> dict[str, str]:
        return {"x-call-id": next(values), "user-agent": next(values), "x-session-id": next(values)}

    for path in ("/chat/chat/completions", "/rag/chat/completions", "/v1/chat/completions"):
        for stream in (True, False):
            await served.post(
                f"{path}?agent={next(values).replace(' ', '%20').replace('+', '%2B')}",
                {**fields(values), "stream": stream},
                headers(),
            )
    await served.post(
        "/rag/responses",
        {"input": f"I am {next(values)}", "user": next(values), "instructions": next(values)},
        headers(),
    )
    await served.post("/chat/chat/completions", {**fields(values), "n": 2}, headers())
    await served.post("/chat/chat/completions", {"messages": next(values)})
    await served.post(f"/nothing/{next(values).replace(' ', '')}", {})
    await served.post("/v1/feedback", {"call_id": next(values), "rating": "bad", "note": next(values)})
    credentials = {"name": "ann", "password": "a-long-password-of-ann"}
    await served.post("/v1/users", credentials)
    session = (await served.post("/v1/sessions", credentials)).json()
    mine = {"authorization": f"Bearer {session['access_token']}"}
    chat = (await served.post("/v1/conversations", {"title": next(values), "instructions": next(values)}, mine)).json()
    await served.post(f"/v1/conversations/{chat['id']}/messages", {"content": f"I am {next(values)}"}, mine)
    await served.post(f"/v1/conversations/{chat['id']}/messages", {"content": [next(values)]}, mine)
    number = (
        await served.post(
            "/api/conversations/create", {"title": next(values), "model": "gpt-x", "api_key": "sk-1"}, mine
        )
    ).json()
    await served.post(f"/api/chat/{number['conversation_id']}", {"message": next(values)}, mine)
    base = (await served.post("/v1/knowledge-bases", {"name": next(values)}, mine)).json()["id"]
    file, kind = form({}, "notes.md", f"# Notes\n\nIt tells of {next(values)}.".encode())
    await served.post(f"/v1/knowledge-bases/{base}/documents", file, {**mine, "content-type": kind})
    await served.post(f"/v1/knowledge-bases/{base}/search", {"query": next(values)}, mine)


async def test_no_private_value_reaches_a_log_a_record_a_trace_or_a_metric(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    queue = list(VALUES)
    used: list[str] = []

    def take() -> Iterator[str]:
        while True:
            value = queue[len(used) % len(queue)]
            used.append(value)
            yield value

    values = take()
    said = f"Your card is {next(values)}, write to {next(values)}, call {next(values)}, use {next(values)}."
    pieces = [said[at : at + 3] for at in range(0, len(said), 3)]
    broken: list[tuple[Any, ...]] = [("status", 400, {}, json.dumps({"error": {"message": next(values)}}).encode())]
    scripts = (says(*pieces), calls("look", json.dumps({"q": next(values)})), broken)
    with receiver() as got:
        settings: dict[str, Any] = {
            "record": "all", "log_prompts": True, "otel_url": got.url, "otel_content": True, "registration": "open",
        }  # fmt: skip
        async with upstream(*scripts, default=says(*pieces)) as up:
            async with serving(tmp_path, models={"main": up.url}, **settings) as served:
                await live(served, values)
                metrics = (await served.get("/metrics")).body.decode()
    assert len(set(used)) >= 90, "many values were sent"
    ours = [
        record for record in caplog.records if record.name.startswith(("dialgraph", "server", "nodes", "knowledge"))
    ]
    lines = [one.format(record) for record in ours for one in (LineFormatter("%(message)s"), JsonFormatter())]
    files = [file for file in (tmp_path / "records").rglob("*") if file.is_file()]
    listed = await asyncio.to_thread(run, "calls", "list", "--json", at=tmp_path, DIALGRAPH_DATA_DIR=str(tmp_path))
    sinks = {
        "log": "\n".join(lines), "records": "".join(file.read_text(encoding="utf-8") for file in files),
        "traces": str(got.spans) + str(got.metrics), "metrics": metrics, "calls": listed.stdout,
    }  # fmt: skip
    assert all(len(text) > 1000 for text in sinks.values()), {name: len(text) for name, text in sinks.items()}
    leaked = {
        (name, value)
        for name, text in sinks.items()
        for value in set(used)
        if value in text or value.replace(" ", "") in text
    }
    assert not leaked, sorted(leaked)
