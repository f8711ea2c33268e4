"""Clients of other projects receive the sound of the audio endpoint, or text if they ask for it."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dialgraph.project import ROOT
from tests.support.serving import serving

CLIENTS = ROOT / "tests" / "clients"
WORDS = "The sauna is heated from 4 to 9 p.m."


async def told(environment: str, script: str, *arguments: str) -> Any:
    """Run the script of a client. Return what it prints, parsed from JSON."""
    python = str(ROOT / f".venv/{environment}/bin/python") if environment else sys.executable
    process = await asyncio.create_subprocess_exec(
        python, str(CLIENTS / script), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-4000:]
    return json.loads(output)


@pytest.mark.clients
async def test_litellm_receives_every_frame_or_the_text(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        left = await told("litellm", "sound_cases.py", "litellm", f"http://127.0.0.1:{served.port}")
    assert left["sound"]["transcript"].startswith(WORDS) and left["sound"]["text"] == ""
    assert left["sound"]["audio"] > 32_000 and left["sound"]["audio"] % 1280 == 0
    assert left["text"]["text"].startswith(WORDS) and not left["text"]["audio"]
    assert left["sound"]["finish"] == left["text"]["finish"] == "stop"


@pytest.mark.clients
async def test_openai_agents_receives_the_text(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        left = await told("agents", "sound_cases.py", "agents", f"http://127.0.0.1:{served.port}")
    assert left["text"]["text"].startswith(WORDS) and left["plain"]["text"].startswith(WORDS)


@pytest.mark.clients
async def test_pipecat_receives_the_text(tmp_path: Path) -> None:
    case = {
        "name": "audio", "model": "audio", "messages": [{"role": "user", "content": "How much is the sauna?"}],
        "extra": {"modalities": ["text"]},
    }  # fmt: skip
    async with serving(tmp_path) as served:
        left = await told("pipecat", "pipecat_service.py", served.base, json.dumps([case]))
    assert left["audio"]["text"].startswith(WORDS) and left["audio"]["error"] is None
