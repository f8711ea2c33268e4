"""Which steps, in which order. One endpoint a file: its `spec` says it, its `graph` runs it."""

import os

# Before LangGraph is imported: nothing of a call leaves the machine unless it is asked for, and nothing stored is
# unpacked into classes.
os.environ.setdefault("LANGSMITH_TRACING", "false")
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
