"""The tools of an MCP server, through langchain-mcp-adapters (extra `mcp`)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_mcp_adapters.client import MultiServerMCPClient

from dialgraph.tools.port import ToolContext, ToolError, ToolSchema

LISTING_SECONDS = 2.0
"""A caller waits for the model, not for a list."""
AWAY_SECONDS = 10.0
"""How long a server that did not tell its tools is not asked."""


class McpTools:
    """One server over streamable HTTP. Its tools are asked for once a process; every call is a session of its own."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._client = MultiServerMCPClient({name: {"transport": "streamable_http", "url": url}})
        self._tools: dict[str, BaseTool] = {}
        self._asking: asyncio.Task[None] | None = None
        self._away_until = 0.0

    async def tools(self) -> Sequence[ToolSchema]:
        """See the port. A server that does not tell them in time is not asked again for a while."""
        if not self._tools:
            if asyncio.get_running_loop().time() < self._away_until:
                raise ToolError(f"The tools {self._name!r} are away.")
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            try:
                # One question for all who wait; a turn that ends does not end it.
                await asyncio.wait_for(asyncio.shield(self._asking), LISTING_SECONDS)
            except Exception as error:  # the client raises groups of whatever its transport raises
                self._away_until = asyncio.get_running_loop().time() + AWAY_SECONDS
                raise ToolError(f"The tools {self._name!r} cannot be reached.") from error
        return [convert_to_openai_tool(tool) for tool in self._tools.values()]

    async def _ask(self) -> None:
        async with asyncio.timeout(LISTING_SECONDS):
            self._tools = {tool.name: tool for tool in await self._client.get_tools()}

    async def call(self, name: str, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """See the port."""
        try:
            result = await self._tools[name].ainvoke(dict(arguments))
        except Exception as error:  # as above; the server's own words may hold what no caller may hear
            raise ToolError(f"The tool {name!r} failed.") from error
        if isinstance(result, str):
            return result
        return "\n".join(str(part.get("text", "")) if isinstance(part, Mapping) else str(part) for part in result)

    async def aclose(self) -> None:
        """Ask no more; nothing else stays open between calls."""
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
            await asyncio.wait({self._asking})
