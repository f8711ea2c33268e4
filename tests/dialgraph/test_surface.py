"""The names that authors import from `dialgraph` stay the same."""

import subprocess
import sys

import pytest

import dialgraph

SURFACE = [
    "END", "Action", "ActionForm", "Audio", "Call", "CallInfo", "CallTurn", "Citation", "Citations", "Comparison",
    "CompiledGraph", "Context", "Event", "Evidence", "Filler", "Filter", "Finish", "Graph", "GraphError",
    "GraphSettings", "GuardRule", "Memory", "Metadata", "ModelError", "Node", "OpenServices", "Passage", "Policy",
    "Profile", "Say", "Searchable", "State", "Step", "StoreError", "SyncCall", "Timing", "ToolContext", "ToolError",
    "Toolbox", "Transcript", "Turn", "TurnRequest", "Update", "compare", "compile_graph", "node", "run_turn",
]  # fmt: skip


def test_every_public_name_can_be_imported() -> None:
    assert dialgraph.__all__ == SURFACE
    assert dir(dialgraph) == sorted(SURFACE)
    for name in SURFACE:
        assert getattr(dialgraph, name) is not None
    classes = [value for name in SURFACE if isinstance(value := getattr(dialgraph, name), type)]
    assert not [one for one in classes if not one.__doc__]


def test_importing_dialgraph_loads_no_heavy_library() -> None:
    code = "import sys, dialgraph; print({'langgraph', 'pydantic', 'aiohttp'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_an_unknown_name_is_refused_with_the_list_of_names() -> None:
    with pytest.raises(AttributeError, match=r"'dialgraph' has no attribute 'Grpah'\. Available: END, Action"):
        _ = dialgraph.Grpah
