"""Where in its graph a step stands: what a model can choose there, and which tools it is offered."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from dialgraph.profiles.profile import ActionKind


def tool_name(tool: object) -> str:
    """What a model calls a tool of OpenAI's form; empty for any other form."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool by which a model can choose where its step leads."""

    route: str
    tool: Mapping[str, Any]
    action: ActionKind | None = None
    """What the step does with the call; a host may have a tool of its own for it."""
    runs: bool = False
    """Whether it is a tool that runs on our side, beside others."""


@dataclass(frozen=True, slots=True)
class Toolset:
    """The tools of a step that runs them."""

    route: str
    servers: tuple[str, ...]
    only: tuple[str, ...]
    """Those of them that are offered; empty: all."""
    passes: int


@dataclass(frozen=True, slots=True)
class StepPlace:
    """Where in its graph a step stands: what its `then` table offers."""

    step: str = ""
    offered: Mapping[str, Offer] = field(default_factory=dict)
    """Tools by which a model can choose an entry, by name."""
    toolset: Toolset | None = None
    """The tools that run in a step that the table leads to."""
    routes: Collection[str] = ()
    """The entries."""
