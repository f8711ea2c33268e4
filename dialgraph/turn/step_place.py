"""The place of a step in its graph: where a model can go from it, and which tools the model gets there."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dialgraph.profiles.profile import ActionKind


def tool_name(tool: object) -> str:
    """Return the name of a tool in OpenAI's form, or an empty text for any other form."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool with which a model can choose where its step leads."""

    route: str
    tool: Mapping[str, Any]
    action: ActionKind | None = None
    """What the step does with the call. A host may have its own tool for it."""
    runs: bool = False
    """Whether the tool runs on this server, also at the same time as others."""


@dataclass(frozen=True, slots=True)
class Toolset:
    """The tools of a step that runs tools."""

    route: str
    servers: tuple[str, ...]
    only: tuple[str, ...]
    """The names of the tools that are offered. Empty: all."""
    passes: int


@dataclass(frozen=True, slots=True)
class StepPlace:
    """The place of a step in its graph: what its `then` table offers."""

    step: str = ""
    offered: Mapping[str, Offer] = field(default_factory=dict)
    """The tools with which a model can choose an entry, by name."""
    toolset: Toolset | None = None
    """The tools of the step in the table that runs tools, if there is one."""
    routes: Collection[str] = ()
    """The entries of the table."""
    instructions: str = ""
    """The instructions of the graph: a template or its name."""
    folders: tuple[Path, ...] = ()
    """The folders where templates are looked for, in order."""
