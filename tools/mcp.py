"""The tools of an MCP server, through langchain-mcp-adapters (extra `mcp`)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_mcp_adapters.client import MultiServerMCPClient

from tools.port import ToolContext, ToolError, ToolSchema


class McpTools:
    """One server over streamable HTTP. Its tools are asked for once a process; every call is a session of its own."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._client = MultiServerMCPClient({name: {"transport": "streamable_http", "url": url}})
        self._tools: dict[str, BaseTool] = {}
        self._asking = asyncio.Lock()

    async def tools(self) -> Sequence[ToolSchema]:
        """See the port."""
        async with self._asking:
            if not self._tools:
                try:
                    self._tools = {tool.name: tool for tool in await self._client.get_tools()}
                except Exception as error:  # the client raises groups of whatever its transport raises
                    raise ToolError(f"The tools {self._name!r} cannot be reached.") from error
        return [convert_to_openai_tool(tool) for tool in self._tools.values()]

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
        """Nothing stays open between calls."""
