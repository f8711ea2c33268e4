"""Plugins of other packages, and engines in the author's own project."""

import json
from pathlib import Path

import pytest

from tests.support.commands import run

MODULE = '''"""A package that brings a node and a voice."""

from dialgraph import State, Turn, Update, node
from dialgraph.speech.tone import ToneVoice


@node(speaks=True)
async def squawk(state: State, turn: Turn) -> Update:
    """Squawk."""
    await turn.say("Squawk! ")
    return None


class Parrot(ToneVoice):
    """A voice that is a tone."""

    def __init__(self, name, address):
        super().__init__(name, type(address)("tone:880"))
'''
DECLARED = """[dialgraph.nodes]
squawk = parrot_pack:squawk

[dialgraph.voices]
parrot = parrot_pack:Parrot
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a folder where a package with plugins is installed."""
    folder = tmp_path / "installed"
    about = folder / "parrot_pack-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot-pack\nVersion: 1.2\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(DECLARED, encoding="utf-8")
    (folder / "parrot_pack.py").write_text(MODULE, encoding="utf-8")
    return folder


def test_plugins_are_listed_and_used_by_their_names(tmp_path: Path, installed: Path) -> None:
    listed = run("plugins", at=tmp_path, PYTHONPATH=str(installed))
    assert listed.returncode == 0
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["nodes", "squawk", "parrot_pack:squawk", "(parrot-pack", "1.2)"],
        ["voices", "parrot", "parrot_pack:Parrot", "(parrot-pack", "1.2)"],
    ]
    assert run("new", "shop", at=tmp_path).returncode == 0
    graph = tmp_path / "shop/shop/graphs/shop.py"
    graph.write_text(graph.read_text().replace('Step("opening_hours")', 'Step("squawk"), Step("opening_hours")'))
    variables = {"PYTHONPATH": str(installed), "DIALGRAPH_VOICES": json.dumps({"main": "parrot:"})}
    answered = run("chat", "--say", "hi", "--save", "hi.wav", at=tmp_path / "shop", **variables)
    assert "Squawk!" in answered.stdout and (tmp_path / "shop" / "hi.wav").stat().st_size > 1000, answered.stderr
    assert "No installed package brings plugins." in run("plugins", at=tmp_path).stdout


def test_a_broken_plugin_is_named_with_its_package(tmp_path: Path, installed: Path) -> None:
    (installed / "parrot_pack.py").write_text("import nope\n", encoding="utf-8")
    listed = run("plugins", at=tmp_path, PYTHONPATH=str(installed))
    sentence = "plugin 'squawk' of parrot-pack 1.2: ModuleNotFoundError: No module named 'nope'"
    assert listed.returncode == 1 and f"cannot be used: {sentence}" in listed.stdout
    checked = run("graphs", "check", at=tmp_path, PYTHONPATH=str(installed))
    assert checked.stderr == f"dialgraph: {sentence}\n"


def test_a_voice_can_be_a_file_of_the_project(tmp_path: Path) -> None:
    assert run("new", "shop", at=tmp_path).returncode == 0
    folder = tmp_path / "shop"
    (folder / "shop" / "voices.py").write_text(MODULE, encoding="utf-8")
    settings = folder / "dialgraph.yaml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text + "voices: {main: 'shop.voices:Parrot'}\n", encoding="utf-8")
    told = run("doctor", at=folder, DIALGRAPH_PORT="0")
    assert "ok    voice 'main': speaks" in told.stdout and told.returncode == 0, told.stdout
    settings.write_text(text + "voices: {main: 'shop.voices:Parot'}\n", encoding="utf-8")
    told = run("doctor", at=folder, DIALGRAPH_PORT="0")
    assert "FAIL  voice 'main': 'shop.voices:Parot' cannot be imported: module" in told.stdout
