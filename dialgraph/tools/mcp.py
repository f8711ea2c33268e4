"""The tools of an MCP server, through langchain-mcp-adapters (extra `mcp`)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_mcp_adapters.client import MultiServerMCPClient

from dialgraph.tools.port import ToolContext, ToolError, ToolSchema

LISTING_SECONDS = 2.0
"""How long to wait for the list of tools: the caller waits for the model, not for a list."""
AWAY_SECONDS = 10.0
"""How long a server is not asked again after it did not send its list of tools."""


class McpTools:
    """The tools of one server, over streamable HTTP: listed once per process, with a session for every call."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._client = MultiServerMCPClient({name: {"transport": "streamable_http", "url": url}})
        self._tools: dict[str, BaseTool] = {}
        self._asking: asyncio.Task[None] | None = None
        self._away_until = 0.0

    async def tools(self) -> Sequence[ToolSchema]:
        """Return the server's tools. A server that does not list them in time is not asked again for a while."""
        if not self._tools:
            if asyncio.get_running_loop().time() < self._away_until:
                raise ToolError(f"The tools {self._name!r} are unavailable.")
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            try:
                # All turns that wait share one request, and a turn that ends does not cancel it.
                await asyncio.wait_for(asyncio.shield(self._asking), LISTING_SECONDS)
            except Exception as error:  # the client raises groups of any errors of its transport
                self._away_until = asyncio.get_running_loop().time() + AWAY_SECONDS
                raise ToolError(f"The tools {self._name!r} cannot be reached.") from error
        return [convert_to_openai_tool(tool) for tool in self._tools.values()]

    async def _ask(self) -> None:
        async with asyncio.timeout(LISTING_SECONDS):
            self._tools = {tool.name: tool for tool in await self._client.get_tools()}

    async def call(self, name: str, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Call the tool in a session of its own, and return its result as text."""
        try:
            result = await self._tools[name].ainvoke(dict(arguments))
        except Exception as error:  # as above; the server's message may contain text that no caller may hear
            raise ToolError(f"The tool {name!r} failed.") from error
        if isinstance(result, str):
            return result
        return "\n".join(str(part.get("text", "")) if isinstance(part, Mapping) else str(part) for part in result)

    async def aclose(self) -> None:
        """Cancel a listing in progress. Nothing else stays open between calls."""
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
            await asyncio.wait({self._asking})
