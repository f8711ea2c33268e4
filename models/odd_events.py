"""Events that cannot be read: one of them never ends an answer, three in a row do."""

import json
import logging
from collections.abc import Iterator
from typing import Any, Final

import orjson

from language.surrogates import joined_within
from models.answer import Part
from models.completion import CompletionReader, UnreadableError
from models.errors import ModelError

log = logging.getLogger(__name__)

MOST_IN_A_ROW: Final = 3


class OddEvents:
    """Of one answer."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._in_a_row = 0
        self._skipped = 0

    def parsed(self, data: bytes) -> Any:
        """The event's JSON; its text if it is none. What strict readers refuse is read: NaN, half an emoji."""
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            try:
                return joined_within(json.loads(data))
            except (ValueError, RecursionError):
                return data

    def read(self, reader: CompletionReader, chunk: Any) -> Iterator[Part]:
        """The parts of the chunk; none if it cannot be read. Raises ModelError for the third in a row."""
        try:
            yield from reader.read(chunk)
        except UnreadableError:
            if isinstance(chunk, bytes) and not chunk.strip():
                return
            self._skipped += 1
            self._in_a_row += 1
            if self._in_a_row == MOST_IN_A_ROW:
                self.log()
                told = f"The model {self._name!r} sent {MOST_IN_A_ROW} events in a row that cannot be read."
                raise ModelError("malformed", told) from None
        else:
            self._in_a_row = 0

    def log(self) -> None:
        """Say once for the whole answer that something was skipped."""
        if self._skipped:
            log.warning("events of an upstream were skipped", extra={"model": self._name, "events": self._skipped})
            self._skipped = 0
