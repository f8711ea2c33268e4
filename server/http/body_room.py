"""How many bytes of large request bodies are held at once: by the server, and for one caller."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from server.errors import ApiError

FREE_BYTES: Final = 64 * 1024
"""Of each body: a turn of plain text is never refused because others send pictures."""
_RETRY_SECONDS: Final = "2"


class BodyRoom:
    """Counts bytes while a request is read and answered. A caller may hold half of what the server may."""

    def __init__(self, most: int, largest_body: int) -> None:
        """`most`: bytes of the server; one body of the largest size always fits, for each of two callers."""
        self._most = max(most, 2 * largest_body)
        self._held: Counter[str] = Counter()

    @contextmanager
    def place(self, principal: str) -> Iterator["HeldBytes"]:
        """A request's place, given back at the end of the block."""
        place = HeldBytes(self, principal)
        try:
            yield place
        finally:
            self._give(principal, -place.counted)

    def take(self, principal: str, count: int) -> None:
        """Raises ApiError 503."""
        full = self._held.total() + count > self._most or self._held[principal] + count > self._most // 2
        if full:
            raise ApiError(
                503,
                "Too many large requests are running. Please try again.",
                "server_error",
                "server_busy",
                headers={"Retry-After": _RETRY_SECONDS},
            )
        self._give(principal, count)

    def _give(self, principal: str, count: int) -> None:
        self._held[principal] += count
        if not self._held[principal]:
            del self._held[principal]


class HeldBytes:
    """The bytes of one request."""

    def __init__(self, room: BodyRoom, principal: str) -> None:
        self._room = room
        self._principal = principal
        self.counted = 0

    def grow_to(self, size: int) -> None:
        """The body has, or will have, so many bytes. Raises ApiError 503."""
        more = max(0, size - FREE_BYTES) - self.counted
        if more > 0:
            self._room.take(self._principal, more)
            self.counted += more
