"""`dialgraph calls`, and the guide that leads from a slow call to the slow step."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dialgraph.project import ROOT
from tests.support.commands import run
from tests.support.serving import serving
from tests.support.upstream import says, upstream

CHAT = "/chat/chat/completions"


def asked(words: str) -> dict[str, object]:
    return {"stream": True, "messages": [{"role": "user", "content": words}]}


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """Return a data folder with three recorded calls: a slow one, a quick one, and one that failed."""
    scripts: tuple[list[tuple[Any, ...]], ...] = (
        [("sleep", 1.2), *says("Slowly.")],
        says("Quickly."),
        [("status", 400, {}, b"{}")],
    )
    async with upstream(*scripts) as up, serving(tmp_path, models={"main": up.url}, record="all") as served:
        for call, words in (("slow-call", "Can I bring my dog?"), ("quick-call", "Breakfast?"), ("bad-call", "Hello?")):
            await served.post(CHAT, {**asked(words), "call_id": call})
    return tmp_path


async def told(data: Path, *arguments: str) -> str:
    """Return what the command prints."""
    found = await asyncio.to_thread(run, *arguments, at=data, DIALGRAPH_DATA_DIR=str(data))
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize(
    ("filters", "calls"),
    [
        ([], ["bad-call", "quick-call", "slow-call"]),
        (["--slow", "1000"], ["slow-call"]),
        (["--failed"], ["bad-call"]),
        (["--text", "BREAKFAST"], ["quick-call"]),
        (["--tool", "hangup"], []),
        (["--interrupted"], []),
        (["--limit", "1"], ["bad-call"]),
    ],
)
async def test_calls_are_listed_and_filtered(data: Path, filters: list[str], calls: list[str]) -> None:
    listed = (await told(data, "calls", "list", "--json", *filters)).splitlines()
    assert [json.loads(line)["turns"][0]["call"] for line in listed if line.startswith("{")] == calls


@pytest.mark.parametrize("page", ["docs/where-did-the-time-go.md", "docs/where-did-the-time-go.zh-CN.md"])
async def test_the_guide_leads_from_the_slow_call_to_the_slow_step(data: Path, page: str) -> None:
    blocks = re.findall(r"^```bash\n(dialgraph .*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    commands = [line.partition("#")[0].split()[1:] for block in blocks for line in block.splitlines()]
    listed = await told(data, *commands[0])
    assert "slow-call" in listed and "quick-call" not in listed and "Can I bring my dog?" in listed
    shown = await told(data, *["slow-call" if part == "CALL" else part for part in commands[1]])
    parts = {name: float(ms) for name, ms in re.findall(r"^ +(\S+) +([\d.]+) ms", shown, re.M)}
    assert max(parts, key=lambda name: parts[name]) == "call_model.model" and parts["call_model.model"] >= 1200
    assert "caller: Can I bring my dog?" in shown and "agent:  Slowly." in shown


async def test_a_call_is_shown_exported_rated_and_erased(data: Path) -> None:
    shown = await told(data, "calls", "show", "bad-call", "--prompt")
    assert "error:upstream_rejected" in shown and "user      Hello?" in shown
    exported = [json.loads(line) for line in (await told(data, "calls", "export", "bad-call")).splitlines()]
    assert (exported[0]["kind"], exported[-1]["kind"]) == ("turn", "end")
    assert "Rated bad" in await told(data, "calls", "rate", "bad-call", "bad", "It said nothing.")
    assert "bad-call" in await told(data, "calls", "list", "--rating", "bad")
    assert "Erased: 1 turns." in await told(data, "calls", "erase", "--call", "bad-call")
    gone = await asyncio.to_thread(run, "calls", "show", "bad-call", at=data, DIALGRAPH_DATA_DIR=str(data))
    assert gone.returncode == 1 and "No recorded call 'bad-call'." in gone.stderr
