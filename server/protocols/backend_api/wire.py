"""The stream of system 003: one JSON object an event, as server-sent events or as bare lines."""

from collections.abc import Iterable
from typing import Literal

import orjson

from dialgraph.turn.events import Event, Fallback, Filler, Say
from server.errors import ApiError
from server.protocols.backend_api.texts import Language, told
from server.protocols.sse import EVENT_STREAM, KEEP_ALIVE

FINISHED = "Stream finished"


class BackendApiWire:
    """One reader's copy of one turn."""

    def __init__(self, form: Literal["events", "lines"], language: Language) -> None:
        self._events = form == "events"
        self._language = language
        self._words: list[str] = []
        self.media_type = EVENT_STREAM if self._events else "application/x-ndjson"
        self.keep_alive = KEEP_ALIVE if self._events else b"\n"

    def stream(self, events: Iterable[Event]) -> bytes:
        """What these events add to the stream; often nothing."""
        return b"".join([self._frame("message", text) for text in self._heard(events)])

    def stream_end(self) -> bytes:
        """The rest of a stream that ends well."""
        return self._frame("done", FINISHED) + self._frame("full_response", "".join(self._words))

    def stream_error(self, error: ApiError) -> bytes:
        """The rest of a stream that fails."""
        return self._frame("error", told(error, self._language))

    def fold(self, events: Iterable[Event]) -> None:
        """Take these events into the body; documented clients only stream."""
        self._heard(events)

    def body(self) -> bytes:
        """The whole answer."""
        return orjson.dumps({"event": "full_response", "data": "".join(self._words)})

    def refusal(self, error: ApiError) -> bytes:
        """The body of a reply that is an error."""
        return orjson.dumps({"error": told(error, self._language)})

    def name_after(self, turn_id: str) -> None:
        """Its events have no ids."""

    def _heard(self, events: Iterable[Event]) -> list[str]:
        texts = [event.text for event in events if isinstance(event, Say | Filler | Fallback) and event.text]
        self._words += texts
        return texts

    def _frame(self, event: str, data: str) -> bytes:
        line = orjson.dumps({"event": event, "data": data})
        return b"data: %b\n\n" % line if self._events else line + b"\n"
