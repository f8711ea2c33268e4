"""The engine: what is declared in a graph, how a turn of it runs, and all that it stands on."""

import os

# Before LangGraph is imported: nothing of a call leaves the machine unless it is asked for, and nothing stored is
# unpacked into classes.
os.environ.setdefault("LANGSMITH_TRACING", "false")
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
