"""The documentation is correct: its code runs, its commands work, its tables and pages match the code."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dialgraph.graph.compile import CompiledGraph, compile_graph
from dialgraph.graph.spec import Graph
from dialgraph.profiles.choose import known_profiles
from dialgraph.project import ROOT
from dialgraph.services.settings import GraphSettings
from dialgraph.shadowing import PACKAGES
from dialgraph.speech.port import ENGINES as VOICES
from dialgraph.turn.node import Node
from docgen.pages import PAGES
from server.settings import PREFIX, Settings
from tests.support.serving import serving
from tests.support.wire import read_stream

READMES = ["README.md", "README.zh-CN.md"]


def text(name: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """Return the code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text(name), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", READMES)
def test_readmes_have_at_most_150_lines(name: str) -> None:
    assert len(text(name).splitlines()) <= 150


def test_both_readmes_show_the_same_code() -> None:
    english, chinese = READMES
    for language in ("python", "json"):
        assert blocks(english, language) == blocks(chinese, language)
    assert len(re.findall(r"^## ", text(english), re.M)) == len(re.findall(r"^## ", text(chinese), re.M))
    assert re.findall(r"^\| `([\w/]+)`", text(english), re.M) == re.findall(r"^\| `([\w/]+)`", text(chinese), re.M)


@pytest.mark.parametrize("name", ["docs/security.md", "docs/security.zh-CN.md"])
def test_each_security_promise_names_tests_that_exist(name: str) -> None:
    promised = text(name).split("\n## ")[2]
    rows = [row for row in promised.splitlines() if row.startswith("| ") and row.count(" | ") == 1]
    without = [row for row in rows if "::" not in row and row not in ("| promise | test |", "| 承诺 | 测试 |")]
    assert len(rows) > 30 and not without
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", promised)
    tests = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py")}
    assert not [one for one in named if f"def {one[1]}(" not in tests[one[0]]]
    assert named == re.findall(r"`(test_\w+\.py)::(test_\w+)`", text("docs/security.md")), (
        "both pages name the same tests"
    )


@pytest.mark.parametrize("name", READMES)
def test_python_blocks_of_the_readmes_run(name: str) -> None:
    graph, node, livekit = blocks(name, "python")
    made: dict[str, object] = {}
    exec(compile(graph, name, "exec"), made)
    assert isinstance(made["spec"], Graph) and isinstance(made["graph"], CompiledGraph)
    assert graph in text("graphs/rag.py"), "the README must show graphs/rag.py"
    exec(compile(node, name, "exec"), made)
    assert isinstance(made["opening_hours"], Node)
    compile(livekit, name, "exec")


def test_the_code_in_the_guide_to_calls_runs() -> None:
    made: dict[str, object] = {}
    for block in blocks("docs/calls.md", "python"):
        exec(compile(block, "docs/calls.md", "exec"), made)
        spec = made.get("spec")
        if isinstance(spec, Graph) and "tools=[" not in block:
            compile_graph(spec)
    assert isinstance(made["graph"], CompiledGraph) and isinstance(spec, Graph) and spec.policy.memory


@pytest.mark.parametrize("page", ["docs/prompts.md", "docs/projects.md"])
def test_the_code_in_the_guides_to_prompts_and_projects_runs(page: str) -> None:
    made: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(block, made)
    assert isinstance(made["graph"], CompiledGraph)


@pytest.mark.parametrize("page", ["docs/studio.md", "docs/notebooks.md"])
def test_the_code_in_the_guides_to_studio_and_notebooks_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIALGRAPH_DATA_DIR", str(tmp_path))
    made: dict[str, Any] = {}
    for block in blocks(page, "python"):
        exec(block, made)
    assert capsys.readouterr().out.strip() == "Dogs and cats are welcome for 15 euros a night."
    if "test_the_bot_knows_about_dogs" in made:
        made["test_the_bot_knows_about_dogs"]()


@pytest.mark.parametrize("name", ["docs/speech.md", "docs/speech.zh-CN.md"])
def test_the_code_in_the_guide_to_speech_runs(name: str) -> None:
    client, block = blocks(name, "python")
    compile(client, name, "exec")  # tests/nodes/test_speech_faults.py runs it
    made: dict[str, object] = {}
    exec(compile(block, name, "exec"), made)
    assert isinstance(made["graph"], CompiledGraph)
    (settings,) = blocks(name, "yaml")
    read = GraphSettings(**yaml.safe_load(settings))
    assert set(read.voice_addresses()) == {"main", "plain"} and set(read.transcriber_addresses()) == {"main"}
    assert all(f"`{scheme}:" in text(name) for scheme in VOICES if scheme != "http")


def test_every_profile_has_a_page() -> None:
    pages = {path.name for path in (ROOT / "docs/platforms").iterdir()}
    wanted = {f"{name}.md" for name in known_profiles() if name != "openai"}
    assert wanted | {"agora.zh-CN.md", "alibaba.zh-CN.md", "README.md"} == pages
    for page in sorted(pages):
        for block in blocks(f"docs/platforms/{page}", "json"):
            json.loads(block if block.strip().startswith("{") else "{}")
        for block in blocks(f"docs/platforms/{page}", "python"):
            compile(block, page, "exec")
        for linked in re.findall(r"\]\(([\w./-]+)\)", text(f"docs/platforms/{page}")):
            assert (ROOT / "docs/platforms" / linked).exists(), f"{page} links to {linked}"
    for name, profile in known_profiles().items():
        if name != "openai":
            page = text(f"docs/platforms/{name}.md")
            assert profile.hangup.tool in page, f"{name}.md does not name the tool {profile.hangup.tool}"


@pytest.mark.parametrize("name", READMES)
def test_json_blocks_of_the_readmes_are_valid(name: str) -> None:
    (agora,) = [json.loads(block) for block in blocks(name, "json")]
    assert agora["llm"]["url"].endswith("/rag/chat/completions")


@pytest.mark.parametrize("name", READMES)
async def test_curl_commands_of_the_readmes_work(name: str, tmp_path: Path) -> None:
    commands = [
        shlex.split(command.replace("\\\n", ""))
        for block in blocks(name, "bash")
        for command in re.findall(r"curl -N .*?'\n", block, re.DOTALL)  # test_speech.py runs the other one
    ]
    assert len(commands) == 2
    answers = {}
    async with serving(tmp_path) as served:
        for command in commands:
            url, body = command[2], command[command.index("-d") + 1]
            path = url.removeprefix("http://127.0.0.1:8000")
            answers[path] = read_stream((await served.post(path, json.loads(body))).body)
    chinese = "zh" in name
    assert ("猫和狗" if chinese else "Dogs and cats") in answers["/rag/chat/completions"].text
    assert answers["/hangup/chat/completions"].tool_calls[0]["name"] == "hangup"


@pytest.mark.parametrize("name", READMES)
def test_the_commands_for_a_bot_of_ones_own_work(name: str, tmp_path: Path) -> None:
    block = next(block for block in blocks(name, "bash") if "dialgraph new" in block)
    install, *commands, serve = block.splitlines()
    assert install.startswith("pipx install .") and serve.startswith("dialgraph serve --reload")
    (tmp_path / "clone").mkdir()
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = "set -e\n" + "\n".join(commands)
    ran = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path / "clone", env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "You can return an article within thirty days." in ran.stdout and "You are Vera" in ran.stdout


@pytest.mark.parametrize("name", READMES)
def test_tables_of_the_readmes_name_what_exists(name: str) -> None:
    known = {str(field.validation_alias or PREFIX + key.upper()) for key, field in Settings.model_fields.items()}
    named = re.findall(r"^\| `([A-Z_]+)`", text(name), re.M)
    assert len(named) == 6 and set(named) <= known
    for folder in re.findall(r"`(\w+)/`", text(name).partition("|---|---|")[2]):
        assert (ROOT / folder).is_dir(), folder
    for target in re.findall(r"\]\(([\w./-]+)\)", text(name)):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_generated_pages_are_up_to_date(page: str) -> None:
    assert text(f"docs/{page}") == PAGES[page](), "run `make docs`"


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_every_error_code_is_in_wire_md() -> None:
    codes = set()
    for file in (ROOT / "server").rglob("*.py"):
        codes |= set(re.findall(r'code="(\w+)"', file.read_text(encoding="utf-8")))
    page = text("docs/wire.md")
    assert codes and all(f"`{code}`" in page for code in codes - {"invalid_request"}), codes


def test_every_make_target_has_help() -> None:
    makefile = text("Makefile")
    for word in ("install", "serve", "studio", "notebook", "test", "check", "bench", "soak", "lock", "help"):
        assert re.search(rf"^{word}:.*## \w", makefile, re.M), word


def test_the_changelog_and_the_version_agree() -> None:
    from server.app import VERSION

    assert f'version = "{VERSION}"' in text("pyproject.toml")
    assert "## Unreleased" in text("CHANGELOG.md")


def test_decisions_have_a_date_and_all_sections() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("2*.md"))
    assert len(pages) >= 6
    for page in pages:
        assert re.match(r"\d{4}-\d{2}-\d{2}-[a-z-]+\.md", page.name)
        body = page.read_text(encoding="utf-8")
        assert all(f"## {part}" in body for part in ("Context", "Decision", "Consequences")), page.name


@pytest.mark.parametrize("name", ["docs/users.md", "docs/users.zh-CN.md"])
async def test_the_commands_in_the_guide_to_users_work(name: str, tmp_path: Path) -> None:
    _, talk, usage = blocks(name, "bash")
    async with serving(tmp_path) as served:
        script = f"{talk}\nsleep 1.5\n{usage}".replace("http://127.0.0.1:8000", f"http://127.0.0.1:{served.port}")
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        printed = (await process.communicate())[0].decode()
    told, used = printed.split("data: [DONE]")
    assert '"content":' in told, printed
    assert '"outcome":"complete"' in used and ",complete," in used, printed


def test_every_decision_is_in_the_index() -> None:
    index = re.findall(r"\]\((2026-[\w-]+\.md)\)", text("docs/decisions/README.md"))
    assert index == sorted((file.name for file in (ROOT / "docs" / "decisions").glob("2026-*.md")), reverse=True)


def test_the_architecture_page_names_every_room_and_only_existing_files() -> None:
    page = text("docs/architecture.md")
    for room in re.findall(r"^\| `([\w/]+)/` \|", page, re.M):
        assert (ROOT / room).is_dir(), room
    for file in re.findall(r"`((?:server|dialgraph|nodes|knowledge|tests)/[a-z_/]+\.py)`", page):
        assert (ROOT / file).is_file(), file
    rooms = {path.parent for top in PACKAGES for path in (ROOT / top).rglob("__init__.py")}
    named = {ROOT / room for room in re.findall(r"`([a-z_/]+)/`", page)}
    below = {room for room in rooms if any(parent in named for parent in room.parents)}
    assert not {room for room in rooms - named - below if room.name not in PACKAGES}
