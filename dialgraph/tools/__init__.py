"""The tools that we run for a model: an author's functions, and the tools of MCP servers."""
