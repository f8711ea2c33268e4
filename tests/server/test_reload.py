"""`dialgraph serve --reload`: new turns use the new files, running turns use the old, and mistakes change nothing."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.process.changes import changes
from tests.support.commands import run
from tests.support.upstream import says, upstream

QUESTION = {"messages": [{"role": "user", "content": "hi"}], "stream": True}


class Reloading:
    """A running `dialgraph serve --reload` in a new project."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process) -> None:
        self.folder = folder
        self._process = process
        self.client = httpx2.AsyncClient(timeout=60)
        self.path = "/shop/chat/completions"

    async def said(self, pattern: str) -> "re.Match[str]":
        """Read what it prints until a line matches."""
        assert self._process.stdout is not None
        read = ""
        while line := (await asyncio.wait_for(self._process.stdout.readline(), 100)).decode():
            read += line
            if (found := re.search(pattern, line)) is not None:
                return found
        raise AssertionError(f"it ended before it said {pattern!r}:\n{read}")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace this text in a file of the project."""
        file = self.folder / name
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        assert old in text
        file.write_text(text.replace(old, new) if old else text + new, encoding="utf-8")

    async def ask(self) -> str:
        """Return the whole reply to a question."""
        return (await self.client.post(self.path, json=QUESTION)).text


@asynccontextmanager
async def reloading(folder: Path, model: str) -> AsyncIterator[Reloading]:
    """Serve a project that `dialgraph new` has made."""
    # On a busy machine the running turn must not be over before the test looks at it.
    variables = {
        "DIALGRAPH_MODELS": json.dumps({"main": model}), "DIALGRAPH_AUTH": "none", "DIALGRAPH_GRACE_SECONDS": "100",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "dialgraph"), "serve", "--reload", "--port", "0",
        cwd=folder, env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    server = Reloading(folder, process)
    try:
        yield server
    finally:
        await server.client.aclose()
        process.terminate()
        await process.communicate()


def project(folder: Path) -> Path:
    """Make a project."""
    assert run("new", "shop", at=folder).returncode == 0
    return folder / "shop"


PERSONA = "shop/templates/persona.md"
GRAPH = "shop/graphs/shop.py"


async def test_a_change_is_used_by_new_turns_and_not_by_running_ones(tmp_path: Path) -> None:
    over = asyncio.Event()
    first: list[Any] = [("chunk", "Still "), ("wait", over), *says("here.")]
    async with upstream(first, default=says("Hello.")) as up, reloading(project(tmp_path), up.url) as server:
        address = (await server.said(r"http://[\d.]+:\d+"))[0]
        server.path = address + server.path
        async with server.client.stream("POST", server.path, json=QUESTION) as running:
            parts = running.aiter_text()
            while "Still " not in await anext(parts):
                pass
            server.edit(PERSONA, "Vera", "Otto")
            await server.said(r"Changed: shop/templates/persona\.md\.")
            await server.said("New turns use the new version")
            assert "Hello." in await server.ask()
            over.set()
            assert "here." in "".join([part async for part in parts]), "the old turn ended on the old graph"
        told = [body["messages"][0]["content"] for body in up.bodies]
        assert "You are Vera" in told[0] and "You are Otto" in told[1]

        server.edit(GRAPH, 'Step("retrieve"', 'Step("retreive"')
        await server.said("unknown node 'retreive'. Did you mean 'retrieve'?")
        await server.said("The new version cannot start, so the old one stays.")
        assert "Hello." in await server.ask()

        server.edit(GRAPH, 'Step("retreive"', 'Step("retrieve"')
        server.edit(".env", "", "DIALGRAPH_REQUIRE_STREAM=true\n")
        await server.said(r"Changed: .*\.env")
        await server.said("New turns use the new version")
        plain = await server.client.post(server.path, json={**QUESTION, "stream": False})
        assert plain.status_code == 400, "the setting in .env is in force"


async def test_a_mistake_at_the_start_is_answered_until_it_is_mended(tmp_path: Path) -> None:
    folder = project(tmp_path)
    graph = folder / GRAPH
    right = graph.read_text(encoding="utf-8")
    graph.write_text(right.replace('Step("retrieve"', 'Step("retreive"'), encoding="utf-8")
    async with upstream(default=says("Hello.")) as up, reloading(folder, up.url) as server:
        await server.said("unknown node 'retreive'")
        address = (await server.said("Dialgraph waits on (http://[^ ]+)"))[1]
        refused = await server.client.post(address + server.path, json=QUESTION)
        assert refused.status_code == 503 and "The terminal of the server shows which one." in refused.text
        assert "retreive" not in refused.text and "shop.py" not in refused.text
        graph.write_text(right.replace('Step("retrieve"', 'Step("retreive2"'), encoding="utf-8")
        await server.said("There is still a mistake.")
        graph.write_text(right, encoding="utf-8")
        await server.said("New turns use the new version")


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("shop/graphs/shop.py", True), ("shop/graphs/x.yaml", True), ("shop/templates/persona.md", True),
        (".env", True),        ("shop/templates/x.j2", True), ("langgraph.json", True), ("dialgraph.yaml", True),
        ("data/dialgraph.db", False), ("knowledge/shop.md", False), (".venv/lib/x.py", False), ("README.md", False),
        ("shop/__pycache__/shop.py", False),
    ],
)  # fmt: skip
def test_only_files_that_a_server_reads_count_as_changes(tmp_path: Path, name: str, seen: bool) -> None:
    (tmp_path / "other.py").write_text("x = 1\n")
    looks = changes(tmp_path)  # the first look is now: what is written after this counts
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("y = 1\n")
    assert next(looks) == ([name] if seen else [])
