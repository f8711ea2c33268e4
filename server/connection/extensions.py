"""The extensions that our protocol adds to the ASGI scope of a request, under `extensions`."""

from typing import Final

ABORT: Final = "dialgraph.abort"
"""Closes the connection of a client that does not read."""
VANISHED: Final = "dialgraph.vanished"
"""Returns whether the client has stopped acknowledging."""
KNOWN: Final = "dialgraph.known"
"""Notes that a valid key was sent over this connection."""
CAME: Final = "dialgraph.came"
"""When the head of the request had come, in seconds on the monotonic clock."""
BODY_STREAM: Final = "dialgraph.body_stream"
"""Writes pieces of a chunked reply immediately, and reports when its client leaves (server.connection.body_stream)."""
