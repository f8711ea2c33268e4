"""Turns that no server runs are recorded too: in a terminal, a notebook and Studio, in the same form."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import graphs.rag
from dialgraph import Call, GraphSettings
from dialgraph.records.files import RecordFiles
from dialgraph.services.services import default_services
from dialgraph.turn.node import Context
from tests.support.commands import run

KINDS = ["searched", "found", "asked", "answered"]


def recorded(folder: Path) -> tuple[Any, list[str]]:
    """Return the only turn, and the kinds of the lines of its record that tell of engines."""
    files = RecordFiles(folder / "records")
    [summary] = files.summaries()
    lines = [json.loads(line) for line in files.record(summary).splitlines()]
    assert (lines[0]["kind"], lines[-1]["kind"]) == ("turn", "end")
    return summary, [line["kind"] for line in lines if line["kind"] in KINDS]


async def test_a_call_in_python_is_recorded(tmp_path: Path) -> None:
    settings = GraphSettings(data_dir=tmp_path, record="all")
    async with Call(graphs.rag.graph, settings=settings, call_id="call-1") as call:
        await call.say("Can I bring my dog? My card is 4111 1111 1111 1111.")
    summary, kinds = recorded(tmp_path)
    assert (summary.call, summary.endpoint, summary.outcome) == ("call-1", "rag", "complete") and kinds == KINDS
    assert summary.heard and summary.first_word_ms > 0 and "4111" not in summary.said


def test_a_call_in_the_terminal_is_recorded(tmp_path: Path) -> None:
    variables = {"DIALGRAPH_DATA_DIR": str(tmp_path), "DIALGRAPH_RECORD": "all"}
    assert run("chat", "rag", "--say", "Can I bring my dog?", at=tmp_path, **variables).returncode == 0
    summary, kinds = recorded(tmp_path)
    assert (summary.principal, summary.said) == ("terminal", "Can I bring my dog?") and kinds == KINDS


async def test_a_run_in_studio_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALGRAPH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DIALGRAPH_RECORD", "all")
    question = {"messages": [{"role": "user", "content": "Can I bring my dog?"}]}
    services = default_services()
    try:
        await graphs.rag.graph.ainvoke(question, context=Context(call_id="thread-1"))
        from dialgraph.records.records import records_of

        await asyncio.to_thread(records_of(services).close)
    finally:
        await services.aclose()
    summary, kinds = recorded(tmp_path)
    assert (summary.call, summary.endpoint, summary.said) == (
        "thread-1",
        "rag",
        "Can I bring my dog?",
    ) and kinds == KINDS
    assert summary.heard == "Dogs and cats are welcome for 15 euros a night."
