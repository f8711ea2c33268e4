"""The built wheel: it has five import names, all its files, and works next to a project's own folders."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import httpx2
import pytest

from dialgraph.shadowing import PACKAGES
from tests.support.wheel import built_wheel

IN_THE_WHEEL = {
    "dialgraph/storage/migrations/script.py.mako",
    "graphs/langgraph.json",
    "knowledge/parse/warm.pdf",
    "knowledge/sample/hotel.en.md",
    "nodes/templates/with_context.j2",
    "server/project/.env.example.txt",
    "server/project/PROJECT/graphs/PROJECT.py.txt",
    "server/project/langgraph.json.txt",
    "server/protocols/backend_api/chat.py",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel."""
    return built_wheel(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a folder and return it."""
    folder = tmp_path_factory.mktemp("installed")
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project whose folders have names that this package once used or could use."""
    for name in ("accounts", "cache", "database", "language", "models", "speech", "tools", "users"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('the project\\'s own {name}')\n")
    (tmp_path / "nodes").mkdir()
    return tmp_path


@pytest.fixture
def started(installed: Path, project: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start a server from the wheel, in the project, with the current directory first on the path."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dialgraph", "serve", "--port", "0"],
        cwd=project,
        env=_environment(installed),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.terminate()
    process.communicate(timeout=100)


def _environment(installed: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(installed), "DIALGRAPH_AUTH": "none"}


def test_the_wheel_contains_five_packages_and_their_files(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    folders = {name.split("/")[0] for name in names}
    assert {name for name in folders if not name.endswith(".dist-info")} == set(PACKAGES)
    assert names >= IN_THE_WHEEL


def test_a_server_works_next_to_folders_with_common_names(started: "subprocess.Popen[str]") -> None:
    assert started.stdout is not None and started.stderr is not None
    address = re.search(r"http://\S+?:\d+", started.stdout.readline())
    assert address is not None, started.stderr.read()
    asked = {"messages": [{"role": "user", "content": "When is breakfast?"}], "stream": False}
    reply = httpx2.post(f"{address[0]}/rag/chat/completions", json=asked, timeout=60)
    assert reply.status_code == 200 and "breakfast" in reply.text.lower()


@pytest.mark.parametrize("foreign", ["server.py", "nodes/__init__.py"])
def test_a_file_that_hides_one_of_the_packages_stops_the_start(installed: Path, project: Path, foreign: str) -> None:
    (project / foreign).write_text("")
    refused = subprocess.run(
        [sys.executable, "-m", "dialgraph", "serve", "--port", "0"],
        cwd=project,
        env=_environment(installed),
        capture_output=True,
        text=True,
    )
    package = foreign.partition("/")[0].removesuffix(".py")
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr == (
        f"dialgraph: {str((project / foreign).resolve())!r} hides Dialgraph's own package {package!r}."
        " Rename it, or start in another folder.\n"
    )
