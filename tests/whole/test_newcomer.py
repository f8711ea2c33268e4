"""What a newcomer does in the first five minutes, from an empty folder, with the installed wheel."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dialgraph.project import ROOT
from tests.support.wheel import built_wheel

NODE = '''"""The node `weather`."""

from dialgraph import State, Turn, Update, node


@node(writes="weather")
async def weather(state: State, turn: Turn) -> Update:
    """Write what the weather is like."""
    return {"weather": "sunny"}
'''
TOOL = '''

async def book_table(people: int, day: str) -> str:
    """Book a table.

    people: how many people come
    day: the day, such as 2026-11-29
    """
    return "It is booked."
'''
GREET = """Step(
            "greet",
            options={"greeting": "Welcome to the inn!"},
            then={"words": "call_model", "spoken": END, "over": END},
        ),
        """
MANUAL = "# Rooms\n\n## Sauna\n\nThe sauna costs eight euros.\n"


class Newcomer:
    """Somebody who types commands in an empty folder, with a watch in their hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        self.times: list[tuple[str, float]] = []
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("DIALGRAPH_", "PYTHON"))}
        self.environment = {**clean, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Note how long this takes."""
        began = time.monotonic()
        yield
        self.times.append((what, time.monotonic() - began))

    def type(self, *command: str) -> str:
        """Run a command and return what it prints. It must succeed."""
        program = str(self.bin / command[0])
        done = subprocess.run(
            [program, *command[1:]], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace this text in a file."""
        text = (self.folder / name).read_text(encoding="utf-8")
        assert old in text, name
        (self.folder / name).write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_first_five_minutes_of_a_newcomer(tmp_path: Path) -> None:
    person = Newcomer(tmp_path)
    (tmp_path / "sources").mkdir()
    wheel = built_wheel(tmp_path / "sources")
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+==[^\\\n]+)", lock, re.MULTILINE)
    (tmp_path / "pins.txt").write_text("\n".join(pins), encoding="utf-8")

    with person.step("pip install dialgraph"):
        venv.create(person.bin.parent, with_pip=True)
        person.type("python", "-m", "pip", "install", "--quiet", "-c", "pins.txt", str(wheel))
    with person.step("dialgraph new inn"):
        assert "Created the project 'inn'" in person.type("dialgraph", "new", "inn")
    person.folder = tmp_path / "inn"
    with person.step("change the persona, add a node and a tool"):
        person.edit("inn/templates/persona.md", "You are Vera", "You are Otto of the inn. It is {{ weather }}. You are")
        (person.folder / "inn" / "nodes" / "weather.py").write_text(NODE, encoding="utf-8")
        with (person.folder / "inn" / "tools" / "orders.py").open("a", encoding="utf-8") as file:
            file.write(TOOL)
        person.edit("inn/graphs/inn.py", 'Step("opening_hours"),', 'Step("weather"), Step("opening_hours"),')
        person.edit("inn/graphs/inn.py", "import order_status", "import book_table, order_status")
        person.edit("inn/graphs/inn.py", "tools=[order_status]", "tools=[order_status, book_table]")
        assert "1 graph is valid: inn" in person.type("dialgraph", "graphs", "check")
    with person.step("index a manual"):
        (person.folder / "knowledge" / "rooms.md").write_text(MANUAL, encoding="utf-8")
        assert "Documents: 2." in person.type("dialgraph", "knowledge", "index", "knowledge")
    with person.step("dialgraph chat --show-prompt"):
        shown = person.type("dialgraph", "chat", "--say", "How much is the sauna?", "--show-prompt")
        assert "You are Otto of the inn. It is sunny." in shown and "book_table" in shown
        assert "The sauna costs eight euros." in shown.splitlines()
    serving = subprocess.Popen(
        [str(person.bin / "dialgraph"), "serve", "--reload", "--port", "0"],
        cwd=person.folder, env=person.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        with person.step("dialgraph serve --reload"):
            address = _said(serving, r"http://127\.0\.0\.1:\d+")[0]
            assert "The sauna costs eight euros." in _asked(person, address)
        with person.step("edit, and see it change"):
            person.edit("inn/graphs/inn.py", 'Step("call_model", then', f'{GREET}Step("call_model", then')
            _said(serving, "New turns use the new version")
            assert "Welcome to the inn!" in _asked(person, address, opening=True)
    finally:
        serving.terminate()
        serving.communicate()
    for what, seconds in person.times:
        sys.stdout.write(f"{seconds:7.1f} s  {what}\n")
    assert sum(seconds for _, seconds in person.times) < 10 * 300, "the usual time is less than two minutes"


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_wheel_can_be_installed_as_a_tool(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    wheel = built_wheel(tmp_path / "sources")
    environment = {**os.environ, "UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    uv = str(Path(sys.executable).parent / "uv")
    command = [uv, "tool", "install", "--quiet", "--python", sys.executable, str(wheel)]
    installed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    program = str(tmp_path / "bin" / "dialgraph")
    empty = tmp_path / "empty"
    empty.mkdir()
    listed = subprocess.run([program, "graphs", "list"], cwd=empty, capture_output=True, text=True, check=True)
    assert "/rag/chat/completions" in listed.stdout
    assert listed.stderr == (
        "Project: none, so these are the sample endpoints. `dialgraph new DIR` makes a project of your own.\n"
    )
    subprocess.run([program, "new", "inn"], cwd=empty, capture_output=True, check=True)
    said = [program, "chat", "--say", "hi"]
    answered = subprocess.run(said, cwd=empty / "inn" / "inn", capture_output=True, text=True, check=True)
    assert answered.stderr.startswith(f"Project: {(empty / 'inn').resolve()}\n") and "call_model" in answered.stdout


def _said(serving: "subprocess.Popen[str]", pattern: str) -> "re.Match[str]":
    assert serving.stdout is not None
    read = ""
    while line := serving.stdout.readline():
        read += line
        if (found := re.search(pattern, line)) is not None:
            return found
    raise AssertionError(read)


def _asked(person: Newcomer, address: str, *, opening: bool = False) -> str:
    """Ask over HTTP, with the token that the first start has made."""
    messages = [{"role": "user", "content": "How much is the sauna?"}]
    token = (person.folder / "data" / "access.token").read_text(encoding="utf-8").strip()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    about = {"metadata": {"source": "greeting"}} if opening else {}
    body = json.dumps({"messages": messages, "stream": False, **about}).encode()
    request = urllib.request.Request(f"{address}/inn/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return str(json.load(reply)["choices"][0]["message"]["content"])
