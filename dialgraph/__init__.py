"""The engine of Dialgraph. An author needs only this import: `from dialgraph import Graph, Step, node, …`.

Each name is imported from its module when it is first used, so `import dialgraph` is fast. The names in `__all__` are
the stable API; tests/dialgraph/test_surface.py lists them.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dialgraph.shadowing import prefer_packages_to_folders

if TYPE_CHECKING:
    from dialgraph.calls.call import Call, SyncCall
    from dialgraph.calls.compare import Comparison, compare
    from dialgraph.calls.turn import CallTurn
    from dialgraph.graph.compile import CompiledGraph, compile_graph
    from dialgraph.graph.errors import GraphError
    from dialgraph.graph.policy import GuardRule, Memory, Policy
    from dialgraph.graph.spec import END, Graph, Step
    from dialgraph.models.errors import ModelError
    from dialgraph.models.parts import Finish, Say
    from dialgraph.passages import Filter, Passage, Searchable, StoreError
    from dialgraph.profiles.profile import ActionForm, Evidence, Profile
    from dialgraph.run.run import run_turn
    from dialgraph.services.services import OpenServices
    from dialgraph.services.settings import GraphSettings
    from dialgraph.tools.port import Toolbox, ToolContext, ToolError
    from dialgraph.turn.call import CallInfo
    from dialgraph.turn.events import Action, Audio, Citation, Citations, Event, Filler, Metadata, Timing, Transcript
    from dialgraph.turn.node import Node, State, Update, node
    from dialgraph.turn.request import TurnRequest
    from dialgraph.turn.turn import Context, Turn

_ROOMS = {
    "calls.call": ("Call", "SyncCall"),
    "calls.compare": ("Comparison", "compare"),
    "calls.turn": ("CallTurn",),
    "graph.compile": ("CompiledGraph", "compile_graph"),
    "graph.errors": ("GraphError",),
    "graph.policy": ("GuardRule", "Memory", "Policy"),
    "graph.spec": ("END", "Graph", "Step"),
    "models.errors": ("ModelError",),
    "models.parts": ("Finish", "Say"),
    "passages": ("Filter", "Passage", "Searchable", "StoreError"),
    "profiles.profile": ("ActionForm", "Evidence", "Profile"),
    "run.run": ("run_turn",),
    "services.services": ("OpenServices",),
    "services.settings": ("GraphSettings",),
    "tools.port": ("ToolContext", "ToolError", "Toolbox"),
    "turn.call": ("CallInfo",),
    "turn.events": ("Action", "Audio", "Citation", "Citations", "Event", "Filler", "Metadata", "Timing", "Transcript"),
    "turn.node": ("Node", "State", "Update", "node"),
    "turn.request": ("TurnRequest",),
    "turn.turn": ("Context", "Turn"),
}
_PLACES = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "END",
    "Action",
    "ActionForm",
    "Audio",
    "Call",
    "CallInfo",
    "CallTurn",
    "Citation",
    "Citations",
    "Comparison",
    "CompiledGraph",
    "Context",
    "Event",
    "Evidence",
    "Filler",
    "Filter",
    "Finish",
    "Graph",
    "GraphError",
    "GraphSettings",
    "GuardRule",
    "Memory",
    "Metadata",
    "ModelError",
    "Node",
    "OpenServices",
    "Passage",
    "Policy",
    "Profile",
    "Say",
    "Searchable",
    "State",
    "Step",
    "StoreError",
    "SyncCall",
    "Timing",
    "ToolContext",
    "ToolError",
    "Toolbox",
    "Transcript",
    "Turn",
    "TurnRequest",
    "Update",
    "compare",
    "compile_graph",
    "node",
    "run_turn",
]

prefer_packages_to_folders()
# Set before LangGraph is imported. No trace leaves this machine unless the environment asks for it, and stored data is
# not loaded as instances of classes.
os.environ.setdefault("LANGSMITH_TRACING", "false")
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'dialgraph' has no attribute {name!r}. Available: {', '.join(__all__)}.")
    value = getattr(import_module(f"dialgraph.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
