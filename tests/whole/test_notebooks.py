"""Every notebook runs from its first cell to its last, in its own folder, and prints the expected output."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from dialgraph.project import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore:.*event loop.*")
def test_notebooks_run_and_show_the_expected_output(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIALGRAPH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
    shown = "".join(
        output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
    assert "Dogs and cats are welcome for 15 euros a night." in shown
    assert "Did you mean 'retrieve'?" in shown
    assert "retrieve -.-> rewrite_messages" in shown or "retrieve -. " in shown
    assert "早上八点到晚上九点" in shown
    assert shown.count(" ms  ok") == 4
