"""The Toolbox port: tools in the form in which OpenAI requests declare them, and a method to call them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from dialgraph.engines import engine_of

ToolSchema = Mapping[str, Any]
"""`{"type": "function", "function": {"name", "description", "parameters"}}`."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The facts about a turn that its tools are given."""

    idempotency_key: str
    """The same whenever the same turn repeats the same call: after a crash, a retry or a second delivery."""
    call_id: str = ""
    principal: str = ""
    caller_number: str = ""


class ToolError(Exception):
    """A tool call failed. The message goes to the model, so that it can tell the caller or try something else."""


class Toolbox(Protocol):
    """A set of tools. One instance serves the whole process; many turns use it at the same time."""

    async def tools(self) -> Sequence[ToolSchema]:
        """Return all tools. Raise ToolError if they are unavailable."""

    async def call(self, name: str, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Return the result as text. Raise ToolError."""

    async def aclose(self) -> None:
        """Close every connection."""


ENGINES = {"http": "dialgraph.tools.mcp:McpTools", "https": "dialgraph.tools.mcp:McpTools"}


def open_toolbox(name: str, url: str) -> Toolbox:
    """Return the tools at an address. `name` is their name in settings, graphs and errors."""
    try:
        engine = engine_of("tools", name, url, ENGINES, "the http(s) address of an MCP server.")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"tools {name!r}: {error.name!r} is missing. Install the extra: pip install -e '.[mcp]'."
        ) from error
    return cast(Toolbox, engine(name, url))
