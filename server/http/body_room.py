"""Limits the bytes of large request bodies that are held at the same time: in total, and for one client."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from server.errors import ApiError

FREE_BYTES: Final = 64 * 1024
"""Bytes of each body that are not counted. So plain text is never refused because others send pictures."""
_RETRY_SECONDS: Final = "2"


class BodyRoom:
    """Counts bytes while requests are read and answered. One client may hold half of what the server may hold."""

    def __init__(self, most: int, largest_body: int) -> None:
        """`most`: bytes for the whole server; at least twice `largest_body`, so that two clients can each send one."""
        self._most = max(most, 2 * largest_body)
        self._held: Counter[str] = Counter()

    @contextmanager
    def place(self, principal: str) -> Iterator["HeldBytes"]:
        """Yield the count of one request; its bytes are given back at the end of the block."""
        place = HeldBytes(self, principal)
        try:
            yield place
        finally:
            self._give(principal, -place.counted)

    def take(self, principal: str, count: int) -> None:
        """Count more bytes for a client. Raises ApiError 503 if there is no room."""
        full = self._held.total() + count > self._most or self._held[principal] + count > self._most // 2
        if full:
            raise ApiError(
                503,
                "Too many large requests are being processed. Please try again.",
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
    """Counts the bytes of one request."""

    def __init__(self, room: BodyRoom, principal: str) -> None:
        self._room = room
        self._principal = principal
        self.counted = 0

    def grow_to(self, size: int) -> None:
        """Count a body that has, or will have, `size` bytes. Raises ApiError 503 if there is no room."""
        more = max(0, size - FREE_BYTES) - self.counted
        if more > 0:
            self._room.take(self._principal, more)
            self.counted += more
