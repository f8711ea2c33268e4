"""`dialgraph check`: our endpoints keep every rule. For other servers it reports broken rules and affected hosts."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from server.conformance.probes import Target, check, completions_url
from server.conformance.rules import RULES
from tests.support.serving import serving
from tests.support.upstream import HEAD, Action, calls, event, upstream


@pytest.mark.parametrize("graph", ["chat", "rag", "hangup"])
async def test_our_endpoints_keep_every_rule(tmp_path: Path, graph: str) -> None:
    keys = {"me": "k" * 32}
    async with serving(tmp_path, api_keys=keys) as served:
        target = Target(
            completions_url(f"http://127.0.0.1:{served.port}/{graph}/v1/"), keys["me"], say="Is there a sauna?"
        )
        findings = await check(target)
    assert [one for one in findings if one.verdict == "broken"] == []
    unseen = {one.rule for one in findings if one.verdict == "not seen"}
    assert unseen == set()


async def test_an_endpoint_with_an_upstream_keeps_the_rules(tmp_path: Path) -> None:
    script = calls("hangup")
    async with upstream() as up:
        up.choose = lambda body: script if "goodbye" in str(body["messages"][-1]["content"]) else None
        async with serving(tmp_path, models={"main": up.url}) as served:
            findings = await check(Target(completions_url(served.base)))
    assert {one.rule for one in findings if one.verdict != "kept"} <= {"usage", "unauthorized"}


def chunk(**fields: Any) -> Action:
    """Return a chunk that is right except for these fields."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": None}
    return ("raw", event({**HEAD, "choices": [choice], **fields}))


def choice(**fields: Any) -> Action:
    """Return a chunk whose choice is right except for these fields."""
    return chunk(
        choices=[{"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": None, **fields}]
    )


def tool(**fields: Any) -> list[Action]:
    """Return an answer with a tool call that is right except for these fields."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "hangup", "arguments": "{}"}, **fields}
    return [("delta", {"role": "assistant", "tool_calls": [call]}), ("finish", "tool_calls"), ("done",)]


END: list[Action] = [("finish", "stop"), ("done",)]
BROKEN: dict[str, tuple[str, list[Action]]] = {
    "no id": ("id", [chunk(id=None), *END]),
    "an id that changes": ("id", [choice(), chunk(id="other"), *END]),
    "created in fractions": ("created", [chunk(created=1.5), *END]),
    "no model": ("model", [chunk(model=None), *END]),
    "the waiting message of the samples": ("object", [chunk(object=None), *END]),
    "no choices": ("choices", [chunk(choices=None), *END]),
    "no index": ("index", [choice(index=None), *END]),
    "no delta": ("delta", [choice(delta=None), *END]),
    "no role": ("role", [choice(delta={"content": "Hi"}), *END]),
    "an error key": ("error-key", [chunk(error=None), *END]),
    "no finish": ("finish", [choice(), ("done",)]),
    "two finishes": ("finish", [choice(), ("finish", "stop"), *END]),
    "words in the finish": ("finish", [choice(finish_reason="stop"), ("done",)]),
    "an unknown finish": ("finish", [choice(), ("finish", "eos"), ("done",)]),
    "no end": ("done", [choice(), ("finish", "stop")]),
    "words after the end": ("done", [choice(), *END, choice()]),
    "event names": ("framing", [("raw", b"event: ping\n\n"), choice(), *END]),
    "ids of events": ("framing", [("raw", b"id: 1\n\n"), choice(), *END]),
    "an event without data": ("framing", [("raw", b"data:\n\n"), choice(), *END]),
    "broken JSON": ("json", [("raw", b"data: {nope\n\n"), choice(), *END]),
    "usage that nobody asked for": ("usage", [choice(), chunk(usage={"prompt_tokens": 1}), *END]),
    "an error in the stream": ("answers", [choice(), ("raw", event({"error": {"message": "boom"}})), ("done",)]),
    "a call without index": ("tool-call", tool(index=None)),
    "a call without id": ("tool-call", tool(id="")),
    "arguments that are not JSON": ("tool-call", tool(function={"name": "hangup", "arguments": "\\{\\}"})),
    "a call that finishes with stop": ("tool-finish", [*tool()[:-2], *END]),
    "a call that is sent twice": ("tool-finish", [tool()[0], *tool()]),
    "a status": ("answers", [("status", 503, {}, b"{}")]),
    "JSON in place of a stream": ("event-stream", [("status", 200, {"content-type": "application/json"}, b"{}")]),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_rule_is_reported(name: str) -> None:
    rule, script = BROKEN[name]
    async with upstream(default=script, strict=False) as up:
        findings = {one.rule: one for one in await check(Target(completions_url(up.url)))}
    assert findings[rule].verdict == "broken" and findings[rule].seen
    assert set(findings) == set(RULES)


@pytest.mark.parametrize("lost", [1, 2, 3, 4, 5, 6, 16, 17])
async def test_a_broken_connection_leaves_the_report_complete(lost: int) -> None:
    async with upstream(strict=False) as up:
        up.choose = lambda body: [choice(), ("rst",)] if len(up.exchanges) == lost else None
        findings = {one.rule: one for one in await check(Target(completions_url(up.url)))}
    assert set(findings) == set(RULES)
    assert findings["answers"].verdict in ("kept", "broken") and findings["models"].verdict != "not seen"
    if lost != 6:  # the sixth request is a probe that leaves by itself
        assert findings["whole-answer"].verdict == "broken" and "bytes" in findings["whole-answer"].seen


async def run(*arguments: str) -> tuple[int, str, str]:
    """Run `dialgraph check`; return its exit code, its output and its errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.cli", "check", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def test_the_command_scores_a_server_and_names_the_hosts_it_breaks(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, upstream(default=[chunk(id=None), *END], strict=False) as up:
        good = await run(f"{served.base}/", "--model", "hangup")
        bad = await run(up.url, "--json")
    code, output, _ = good
    assert code == 0 and "27 of 27" in output.replace("\n", "") and "✗" not in output
    found = {one["rule"]: one for one in json.loads(bad[1])}
    assert bad[0] == 1 and found["id"]["verdict"] == "broken" and "LiveKit" in found["id"]["breaks"]
    code, _, errors = await run("http://127.0.0.1:9/v1")
    assert code == 2 and "cannot be checked" in errors and "Traceback" not in errors
