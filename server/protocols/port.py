"""The port that every protocol's encoder implements: events → bytes."""

from collections.abc import Iterable
from typing import Protocol

from dialgraph.turn.events import Event
from server.errors import ApiError


class Wire(Protocol):
    """Encodes one turn for one client: as chat completions, Responses, or events of `llm-backend-api`."""

    media_type: str
    """The content type of a stream."""
    keep_alive: bytes
    """The bytes that a silent stream sends."""

    def stream(self, events: Iterable[Event]) -> bytes:
        """Return the bytes that these events add to the stream; often none."""

    def stream_end(self) -> bytes:
        """Return the last bytes of a stream that ends well."""

    def stream_error(self, error: ApiError) -> bytes:
        """Return the last bytes of a stream that fails."""

    def fold(self, events: Iterable[Event]) -> None:
        """Add these events to the body of a reply that is not streamed."""

    def body(self) -> bytes:
        """Return the body of a reply that is not streamed."""

    def refusal(self, error: ApiError) -> bytes:
        """Return the body of an error reply."""

    def name_after(self, turn_id: str) -> None:
        """Use the id of a stored turn, so that a repeated request gets a reply with the same id."""
