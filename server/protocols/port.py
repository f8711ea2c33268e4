"""The form in which a turn is told: chat completions, responses, or system 003's events."""

from collections.abc import Iterable
from typing import Protocol

from dialgraph.turn.events import Event
from server.errors import ApiError


class Wire(Protocol):
    """The form in which a turn is told: chat completions, responses, or system 003's events."""

    media_type: str
    """Of a stream."""
    keep_alive: bytes
    """What a silent stream sends."""

    def stream(self, events: Iterable[Event]) -> bytes:
        """What these events add to the stream; often nothing."""

    def stream_end(self) -> bytes:
        """The rest of a stream that ends well."""

    def stream_error(self, error: ApiError) -> bytes:
        """The rest of a stream that fails."""

    def fold(self, events: Iterable[Event]) -> None:
        """Take these events into the body of a reply that is not streamed."""

    def body(self) -> bytes:
        """That reply."""

    def refusal(self, error: ApiError) -> bytes:
        """The body of a reply that is an error."""

    def name_after(self, turn_id: str) -> None:
        """It is a turn that is kept, under this id: a request that comes again is answered under the same."""
