"""Checks of the installed packages, and of what an import does."""

import re
import subprocess
import sys
import sysconfig
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
from packaging.version import Version

from dialgraph.project import ROOT

LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-test.lock", ROOT / "tests" / "requirements-openai2.lock"]
UNWANTED = {"litellm", "passlib", "python-jose", "langchain-community"}
EDITABLE = re.compile(r"__editable__\.dialgraph-[\d.]+\.pth|distutils-precedence\.pth")
FLOORS = {
    "aiohttp": "3.14", "fastapi": "0.165", "starlette": "1.3.1", "uvicorn": "0.40", "langgraph": "1.2",
    "langchain-openai": "1.6", "openai": "3.0", "pydantic": "2.12", "orjson": "3.11", "faiss-cpu": "1.15",
    "jinja2": "3.1.6", "h11": "0.16", "httptools": "0.7", "certifi": "2024.7.4", "langgraph-checkpoint": "4.0",
}  # fmt: skip


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_pin_of_a_lock_has_hashes_and_no_url(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    pins = re.findall(r"^([a-z0-9][\w.-]*)==.*?(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL)
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(pins) == len(blocks) > 10
    assert all("--hash=sha256:" in block and "==" in block.splitlines()[0] for block in blocks)
    assert "://" not in text
    assert not UNWANTED & set(pins)


def test_the_gpl_voice_is_not_installed_by_default() -> None:
    assert "espeakng-loader" not in (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "espeakng-loader==" in (ROOT / "requirements-espeak.lock").read_text(encoding="utf-8")


def test_no_unwanted_package_or_pth_file_is_installed() -> None:
    names = {distribution.name.lower() for distribution in distributions()}
    assert not UNWANTED & names
    site = Path(sysconfig.get_paths()["purelib"])
    assert not [path.name for path in site.glob("*.pth") if not EDITABLE.fullmatch(path.name)]


@pytest.mark.parametrize(("package", "floor"), FLOORS.items())
def test_installed_versions_are_not_below_their_floors(package: str, floor: str) -> None:
    assert Version(version(package)) >= Version(floor)


WATCH = """
import sys, threading
seen = []
def look(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        seen.append(event)
sys.addaudithook(look)
import server.asgi
import os
names = ("LANGGRAPH_STRICT_MSGPACK", "LANGSMITH_TRACING")
print(len(seen), threading.active_count(), *(os.environ[name] for name in names))
"""


def test_an_import_opens_no_connection_and_starts_no_thread() -> None:
    shown = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert shown.split() == ["0", "1", "true", "false"], "connections, threads, strict msgpack, tracing"


def test_heavy_libraries_are_not_imported_before_use() -> None:
    heavy = {"alembic", "cryptography", "faiss", "jwt", "langchain_openai", "openai", "rapidfuzz"}
    code = f"import sys, server.asgi, knowledge.search.query; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"
