"""The port that every protocol's encoder implements: events → bytes."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from dialgraph.turn.events import Event
from server.errors import ApiError

Timings = Mapping[str, Any]
"""The times of a turn in milliseconds: `first_word_ms`, `total_ms`, `parts` …"""


class Wire(Protocol):
    """Encodes one turn for one client: as chat completions, Responses, or events of `llm-backend-api`."""

    media_type: str
    """The content type of a stream."""
    keep_alive: bytes
    """The bytes that a silent stream sends."""

    def stream(self, events: Iterable[Event]) -> bytes:
        """Return the bytes that these events add to the stream; often none."""

    def stream_end(self, timings: Timings | None = None) -> bytes:
        """Return the last bytes of a stream that ends well. `timings`: the times of the turn, if the client asks."""

    def stream_error(self, error: ApiError) -> bytes:
        """Return the last bytes of a stream that fails."""

    def fold(self, events: Iterable[Event]) -> None:
        """Add these events to the body of a reply that is not streamed."""

    def body(self, timings: Timings | None = None) -> bytes:
        """Return the body of a reply that is not streamed. `timings`: the times of the turn, if the client asks."""

    def refusal(self, error: ApiError) -> bytes:
        """Return the body of an error reply."""

    def name_after(self, turn_id: str) -> None:
        """Use the id of a stored turn, so that a repeated request gets a reply with the same id."""
