"""Fixtures and hooks for all tests."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Generator

import pytest

from dialgraph.users.accounts import passwords
from tests.support import postgres

vars(passwords)["COST"] = 4  # a hash takes a millisecond; another test checks the real cost

for _name in [name for name in os.environ if name.startswith("DIALGRAPH_")]:
    del os.environ[_name]
for _name in ("OPENAI_API_KEY", "LLM_BASE_URL", "LLM_MODEL", "OPENAI_BASE_URL"):
    os.environ.pop(_name, None)


def pytest_collection_finish() -> None:
    """Exclude everything imported so far from garbage collection, as the server's process does."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a skipped test as failed on CI: a test that did not run has not passed."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder: no .env, no dialgraph.yaml, no data of the checkout."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def database(request: pytest.FixtureRequest) -> str:
    """Return the address of an empty database of each kind."""
    return "sqlite:" if request.param == "sqlite" else postgres.new_database()


_NOT_UNIT = (
    "serving",
    "upstream",
    "server_process",
    "proxies",
    "redis_server",
    "postgres",
    "accounts",
    "stores",
    "killed",
)
"""The modules of `tests.support` that start servers, databases or processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `unit` every test in a module that starts nothing: no server, no database, no process."""
    starting = {f"tests.support.{name}" for name in _NOT_UNIT}
    for item in items:
        if isinstance(item, pytest.Function):
            used = {getattr(value, "__module__", None) for value in vars(item.module).values()}
            modules = {getattr(value, "__name__", None) for value in vars(item.module).values()}
            if not starting & used and not (starting | {"subprocess"}) & modules:
                item.add_marker(pytest.mark.unit)


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """Check that no task outlives the test."""
    before = asyncio.all_tasks()
    yield
    for _ in range(200):
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"tasks left: {left}")
