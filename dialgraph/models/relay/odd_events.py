"""Unreadable events in a stream: a single one is skipped; three in a row end the answer."""

import logging
from collections.abc import Sequence
from typing import Any, Final

from dialgraph.models.errors import ModelError
from dialgraph.models.parts import Part
from dialgraph.models.relay.completion import CompletionReader, UnreadableError
from dialgraph.models.relay.odd_json import read_json

log = logging.getLogger(__name__)

MOST_IN_A_ROW: Final = 3


class OddEvents:
    """The unreadable events of one answer."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._in_a_row = 0
        self._skipped = 0

    def parsed(self, data: bytes) -> Any:
        """Return the event's JSON, or its bytes if it is not JSON."""
        try:
            return read_json(data)
        except ValueError:
            return data

    def read(self, reader: CompletionReader, chunk: Any) -> Sequence[Part]:
        """Return the parts of the chunk; none if it cannot be read. Raise ModelError for the third in a row."""
        try:
            parts = reader.read(chunk)
        except UnreadableError:
            if isinstance(chunk, bytes) and not chunk.strip():
                return ()
            self._skipped += 1
            self._in_a_row += 1
            if self._in_a_row == MOST_IN_A_ROW:
                self.log()
                told = f"The model {self._name!r} sent {MOST_IN_A_ROW} unreadable events in a row."
                raise ModelError("malformed", told) from None
            return ()
        self._in_a_row = 0
        return parts

    def log(self) -> None:
        """Log the number of skipped events, once for the whole answer."""
        if self._skipped:
            log.warning("events of an upstream were skipped", extra={"model": self._name, "events": self._skipped})
            self._skipped = 0
