"""The Toolbox port: tools as OpenAI requests declare them, and a way to call them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from dialgraph.engines import engine_of

ToolSchema = Mapping[str, Any]
"""`{"type": "function", "function": {"name", "description", "parameters"}}`."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool is told of the turn that calls it."""

    idempotency_key: str
    """The same whenever the same turn makes the same call again: after a crash, a retry, a second delivery."""
    call_id: str = ""
    principal: str = ""
    caller_number: str = ""


class ToolError(Exception):
    """A tool did not do it. The message goes to the model, so that it can say so or try otherwise."""


class Toolbox(Protocol):
    """Some tools. An instance serves the whole process and is used by many turns at once."""

    async def tools(self) -> Sequence[ToolSchema]:
        """All of them. Raises ToolError if they cannot be had."""

    async def call(self, name: str, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """The result as text. Raises ToolError."""

    async def aclose(self) -> None:
        """Give back every connection."""


ENGINES = {"http": "dialgraph.tools.mcp:McpTools", "https": "dialgraph.tools.mcp:McpTools"}


def open_toolbox(name: str, url: str) -> Toolbox:
    """Return the tools behind an address. `name` is what settings, graphs and errors call them."""
    try:
        engine = engine_of("tools", name, url, ENGINES, "the http(s) address of an MCP server.")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"tools {name!r}: {error.name!r} is missing. Install the extra: pip install -e '.[mcp]'."
        ) from error
    return cast(Toolbox, engine(name, url))
