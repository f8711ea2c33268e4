"""Every notebook runs from its first cell to its last, outside the clone, and shows what it is about."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from dialgraph.project import ROOT

SHOWN = {
    "01-first-graph": (
        "Dogs and cats are welcome for 15 euros a night.",
        "Did you mean 'retrieve'?",
        "<svg",
        "hotel.en.md",
    ),
    "01-first-graph.zh-CN": ("猫和狗", "Did you mean 'retrieve'?", "<svg", "早上八点到晚上九点"),
    "02-retrieval": ("Documents: 1.", "You can return an article within thirty days.", "Who won the world cup? ["),
    "02-retrieval.zh-CN": ("Documents: 1.", "三十天以内可以退货", "谁赢了世界杯？ ["),
    "03-latency": ("first word after", " ms  ok", "median", "<td"),
    "04-voice": ("<audio controls", " s at 16000 Hz", "█"),
    "05-node-and-tool": ("It is sunny in Bremen.", "['book_table']", "{'weather': 'sunny in Kiel'}"),
    "06-barge-in": ("Hello! How can I help you?", "The caller heard only: ", "['hangup']", "Are you still there?"),
}
"""Notebook → texts that must be in its output."""


def test_every_notebook_is_tested() -> None:
    assert {file.stem for file in (ROOT / "notebooks").glob("*.ipynb")} == set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore:.*event loop.*")
def test_a_notebook_runs_and_shows_what_it_is_about(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALGRAPH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    notebook: Any = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    NotebookClient(notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = ""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        assert output.get("name") != "stderr", output
        shown += output.get("text", "") + "".join(map(str, output.get("data", {}).values()))
    assert not [text for text in SHOWN[name] if text not in shown]
