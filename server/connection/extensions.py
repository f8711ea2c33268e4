"""What our protocol adds to the ASGI scope of a request, under `extensions`."""

from typing import Final

ABORT: Final = "dialgraph.abort"
"""Cuts the connection of a client that does not read."""
VANISHED: Final = "dialgraph.vanished"
"""Tells whether the client acknowledges nothing any more."""
KNOWN: Final = "dialgraph.known"
"""Notes that a valid key was sent over this connection."""
BODY_STREAM: Final = "dialgraph.body_stream"
"""Writes pieces of a chunked reply at once, and tells when its client leaves (server.connection.body_stream)."""
