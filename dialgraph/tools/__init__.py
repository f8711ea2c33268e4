"""What a model can have done on our side: an author's functions, and the tools of MCP servers."""
