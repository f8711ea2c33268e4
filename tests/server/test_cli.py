"""The command `dialgraph`, run as an operator types it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from pathlib import Path

import pytest

from dialgraph.project import ROOT
from tests.server.test_settings import run


def test_help_names_every_command() -> None:
    shown = run("--help", COLUMNS="100")
    for command in ("serve", "new", "doctor", "plugins", "graphs", "chat", "say", "knowledge", "user", "key", "secret"):
        assert command in shown.stdout
    assert all(command in run("graphs", "--help").stdout for command in ("list", "show", "check", "schema"))


def test_graphs_are_listed_shown_and_checked() -> None:
    listed = run("graphs", "list", COLUMNS="200").stdout
    assert "/rag/chat/completions" in listed and "retrieve → rewrite_messages → call_model" in listed
    shown = run("graphs", "show", "hangup").stdout
    assert shown.startswith("---") and "call_model -.-> hangup" in shown
    assert "4 graphs are valid: chat, rag, audio, hangup" in run("graphs", "check").stdout
    unknown = run("graphs", "show", "nope")
    assert unknown.stderr.strip() == "dialgraph: Unknown graph 'nope'. Accepted: 'chat', 'rag', 'audio', 'hangup'."
    assert unknown.returncode == 1


def test_a_graph_file_is_checked() -> None:
    Path("good.yaml").write_text("name: good\nsteps:\n- node: call_model\n", encoding="utf-8")
    Path("bad.yaml").write_text("name: bad\nsteps:\n- node: call_modell\n", encoding="utf-8")
    assert run("graphs", "check", "good.yaml").stdout == "good.yaml: good is valid\n"
    bad = run("graphs", "check", "bad.yaml")
    assert bad.returncode == 1 and "Did you mean 'call_model'?" in bad.stderr
    assert bad.stderr.startswith("dialgraph: bad.yaml, line 3: ")
    assert run("graphs", "check", "none.yaml").stderr == "dialgraph: 'none.yaml' does not exist or is not a file.\n"


def test_the_schema_of_graphs_is_json() -> None:
    schema = json.loads(run("graphs", "schema").stdout)
    assert "acknowledge_options" in schema["$defs"]


def test_a_key_is_created_shown_once_and_revoked() -> None:
    made = run("key", "create", "alice")
    key = made.stdout.strip()
    assert re.fullmatch(r"dg_[\w-]{43}", key) and key not in made.stderr
    assert run("key", "list").stdout == "alice\n"
    assert "There is already a key 'alice'." in run("key", "create", "alice").stderr
    assert run("key", "revoke", "alice").returncode == 0
    again = run("key", "revoke", "alice")
    assert (again.returncode, again.stderr) == (1, "dialgraph: No key 'alice'. Keys: none.\n")
    assert key not in "".join(path.read_text(errors="replace") for path in Path("data").rglob("*") if path.is_file())


def test_knowledge_is_indexed_and_searched() -> None:
    Path("manual.md").write_text("# Printer\n\nPress the green button to print.\n", encoding="utf-8")
    indexed = run("knowledge", "index", "manual.md")
    assert indexed.returncode == 0 and "Documents: 1. Passages: 1. Store: main." in indexed.stdout
    found = run("knowledge", "search", "How do I print?", "--top-k", "2", "--json").stdout.splitlines()
    first = json.loads(found[0])
    assert (first["document"], first["text"]) == ("manual.md", "Press the green button to print.")
    assert "green button" in run("knowledge", "search", "How do I print?").stdout
    assert run("knowledge", "index", "none.md").stderr == "dialgraph: 'none.md' does not exist.\n"
    assert run("knowledge", "search", "x", "--top-k", "0").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "held"),
    [
        (["rag", "--say", "When is breakfast?"], ["from 7 to 10:30 a.m.", "retrieve", " ms"]),
        (["hangup", "--say", "再见"], ["再见", "→ hangup"]),
        (["nope"], ["Unknown graph 'nope'."]),
    ],
)
def test_chat_streams_words_tool_calls_and_times(arguments: list[str], held: list[str]) -> None:
    said = run("chat", *arguments, COLUMNS="200")
    for text in held:
        assert text in said.stdout + said.stderr


def test_chat_shows_what_the_model_is_sent() -> None:
    shown = run("chat", "hangup", "--say", "Can I bring my dog?", "--show-prompt", COLUMNS="200").stdout
    assert "prompt of call_model for the model 'main'\n  system    You are a friendly receptionist" in shown
    assert '<passage source="hotel.en.md">' in shown and "\n  user      Can I bring my dog?\n" in shown
    assert "\n  tools     hangup\n" in shown
    assert "prompt of" not in run("chat", "hangup", "--say", "hi").stdout


def test_chat_continues_until_its_input_ends() -> None:
    command = [sys.executable, "-m", "server.cli", "chat", "rag"]
    said = subprocess.run(
        command, input="When is breakfast?\nIs there a gym?\n", capture_output=True, text=True, timeout=30, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "Garden Room" in said.stdout and "key card" in said.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_and_stops_on_a_signal(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "server.cli", "serve", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    address = re.search(r"http://\S+", process.stdout.readline())
    assert address is not None
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"{address[0]}/ready") as reply:
                assert json.loads(reply.read())["status"] == "ok"
                break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode in (0, -number, 128 + number)
    assert "Traceback" not in errors
    assert (Path("data") / "dialgraph.db").is_file(), "the sample was not indexed at the start"


@pytest.mark.parametrize("page", ["knowledge.md", "knowledge.zh-CN.md"])
@pytest.mark.long
def test_the_commands_of_the_knowledge_guide_work(page: str) -> None:
    """Run the commands of the guide in a new folder, as a reader does."""
    block = (ROOT / "docs" / page).read_text(encoding="utf-8").partition("```bash\n")[2].partition("```")[0]
    lines = [line.partition("  #")[0].strip() for line in block.splitlines() if not line.startswith("make ")]
    written = subprocess.run(
        [sys.executable, "-m", "docgen.manual", str(Path("data/manual").resolve())],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert written.returncode == 0, written.stderr
    assert sorted(file.name for file in Path("data/manual").iterdir()) == [
        "leaflet.en.pdf", "leaflet.zh.pdf", "manual.en.docx", "manual.zh.docx",
    ]  # fmt: skip
    said = [run(*shlex.split(line.removeprefix(".venv/bin/dialgraph "))) for line in lines if "dialgraph" in line]
    assert [one.returncode for one in said] == [0, 0, 0], said
    assert "Documents: 4." in said[0].stdout
    assert ("three months" if page == "knowledge.md" else "三个月") in said[1].stdout.replace("\n", "")
    assert ("jammed" if page == "knowledge.md" else "卡住") in said[2].stdout


def test_commands_manage_users_keys_and_encryption() -> None:
    made = run("user", "create", "ann", given="correct horse battery\n")
    assert made.stdout == "Created 'ann'.\n", made.stderr
    assert "The name 'ann' is taken." in run("user", "create", "ann", given="correct horse battery\n").stderr
    assert "at least 8 characters" in run("user", "create", "bob", given="short\n").stderr
    key = run("key", "create", "bot", "--user", "ann", "--scope", "chat").stdout.strip()
    assert key.startswith("dg_")
    assert run("key", "list", "--user", "ann").stdout == f"bot  …{key[-4:]}  chat\n"
    assert "Unknown scope 'all'" in run("key", "create", "x", "--user", "ann", "--scope", "all").stderr
    assert "There is no user 'eve'." in run("key", "list", "--user", "eve").stderr
    assert run("key", "revoke", "bot", "--user", "ann").stdout == "Revoked 'bot'.\n"
    assert run("user", "disable", "ann").returncode == 0
    assert run("user", "list").stdout == "ann  (disabled)\n"
    assert run("user", "enable", "ann").returncode == 0
    assert run("user", "password", "ann", given="another password\n").returncode == 0
    assert run("secret", "rotate").stdout == "Keys encrypted again: 0.\n"
    assert run("user", "delete", "ann", "--yes").returncode == 0
    assert run("user", "list").stdout == ""


def _seconds(file: Path) -> float:
    with wave.open(str(file)) as opened:
        assert (opened.getnchannels(), opened.getsampwidth()) == (1, 2)
        return float(opened.getnframes() / opened.getframerate())


def test_say_writes_speech_to_a_file() -> None:
    said = run("say", "Good morning. The sauna costs 8 euros.")
    assert said.returncode == 0 and said.stdout.startswith("say.wav: ")
    assert 2 < _seconds(Path("say.wav")) < 5
    assert run("say", "早上好。", "--speaker", "nova", "--output", "zh.wav").returncode == 0
    assert 0.5 < _seconds(Path("zh.wav")) < 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x", "--speaker", "bob"], "The voice 'main' has no 'bob'. Accepted: alloy, ash,"),
        (["x", "--voice", "nope"], "No voice 'nope' in the settings. Accepted: 'main';"),
        ([" "], "The text must contain a letter or a digit."),
        (["x", "--output", "none/x.wav"], "The folder 'none' does not exist."),
    ],
)
def test_say_refuses_bad_input_with_a_message(arguments: list[str], said: str) -> None:
    refused = run("say", *arguments, COLUMNS="200")
    assert refused.returncode != 0 and said in refused.stderr and "Traceback" not in refused.stderr


def test_chat_saves_or_plays_its_answer(tmp_path: Path) -> None:
    """Save the answer as a file, then play it with a player that writes what it receives to a file."""
    saved = run("chat", "rag", "--say", "How much is the sauna?", "--save", "answer.wav")
    assert "The sauna is heated" in saved.stdout and "answer.wav: " in saved.stdout
    assert 2 < _seconds(Path("answer.wav")) < 8
    alone = run("chat", "rag", "--say", "How much is the sauna?", "--listen", PATH=str(tmp_path))
    assert "call.wav: " in alone.stdout and _seconds(Path("call.wav")) == _seconds(Path("answer.wav"))
    (tmp_path / "aplay").write_text('#!/bin/sh\nexec /bin/cat > "$(/usr/bin/dirname "$0")/heard.wav"\n')
    (tmp_path / "aplay").chmod(0o755)
    played = run("chat", "rag", "--say", "Hello", "--listen", PATH=str(tmp_path))
    assert played.returncode == 0 and ".wav" not in played.stdout
    heard = (tmp_path / "heard.wav").read_bytes()
    assert heard.startswith(b"RIFF") and len(heard) > 30_000
