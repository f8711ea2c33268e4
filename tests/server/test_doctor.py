"""`dialgraph doctor`: what is in force, what works, and what to do about the rest."""

import json
import socket
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.upstream import says, upstream


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project."""
    folder = tmp_path_factory.mktemp("made")
    assert run("new", "shop", at=folder).returncode == 0
    return folder / "shop"


def test_everything_works_in_a_new_project(shop: Path) -> None:
    told = run("doctor", at=shop / "shop", DIALGRAPH_PORT="0")
    assert told.returncode == 0, told.stdout + told.stderr
    for line in (
        f"Project: {shop.resolve()}", "  DIALGRAPH_SAMPLE_HANDBOOK = False  (from dialgraph.yaml, line 2)",
        "  DIALGRAPH_PORT = 0  (from DIALGRAPH_PORT in the environment)", "ok    graphs: shop (",
        "ok    database: sqlite (",
        "ok    model 'main': first word ", "ok    store 'main': 0 documents (", "ok    voice 'main': speaks (",
        "ok    port: 127.0.0.1:0 is free (",
    ):  # fmt: skip
        assert line in told.stdout, line
    assert "FAIL" not in told.stdout and "dialgraph 0." in told.stdout


async def test_a_model_is_asked_and_its_secrets_are_hidden(shop: Path) -> None:
    async with upstream(default=says("Hello", " there.")) as up:
        model = {"url": up.url, "api_key": "sk-very-secret-key"}
        variables = {"DIALGRAPH_MODELS": json.dumps({"clever": model}), "OPENAI_API_KEY": "sk-other-secret-key"}
        (shop / ".env").write_text(f"LLM_BASE_URL={up.url}\n", encoding="utf-8")
        try:
            told = await in_a_thread(shop, **variables)
        finally:
            (shop / ".env").unlink()
    assert "ok    model 'main': first word 'Hello' (" in told and "ok    model 'clever': first word 'Hello' (" in told
    assert f"LLM_BASE_URL = {up.url}  (from .env, line 1)" in told
    assert "OPENAI_API_KEY = (set)  (from OPENAI_API_KEY in the environment)" in told
    assert "secret" not in told


async def in_a_thread(shop: Path, **variables: str) -> str:
    """Run the command while the upstream answers."""
    import asyncio

    return (await asyncio.to_thread(run, "doctor", at=shop, **variables)).stdout


def test_what_fails_is_named_with_its_cure(shop: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        variables = {
            "LLM_BASE_URL": "http://127.0.0.1:1/v1",
            "DIALGRAPH_DATABASE_URL": "postgresql://ann:hunter2@127.0.0.1:1/none",
            "DIALGRAPH_REDIS_URL": "redis://:hunter2@127.0.0.1:1/0",
            "DIALGRAPH_PORT": str(taken.getsockname()[1]),
        }
        told = run("doctor", at=shop, **variables)
    assert told.returncode == 1 and "Traceback" not in told.stderr
    lines = told.stdout.splitlines()
    failed = [line.partition(":")[0] for line in lines if line.startswith("FAIL")]
    assert failed == [
        "FAIL  database", "FAIL  redis", "FAIL  model 'main'", "FAIL  store 'main'", "FAIL  port",
    ]  # fmt: skip
    cures = [lines[at + 1] for at, line in enumerate(lines) if line.startswith("FAIL")]
    assert "      Start Redis, or leave DIALGRAPH_REDIS_URL empty: one server works without it." in cures
    assert all(cure.startswith("      ") for cure in cures) and "hunter2" not in told.stdout + told.stderr
