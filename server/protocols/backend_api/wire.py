"""The stream of `llm-backend-api`: one JSON object per event, as server-sent events or as plain lines."""

from collections.abc import Iterable
from typing import Literal

import orjson

from dialgraph.turn.events import Event, Fallback, Filler, Say
from server.errors import ApiError
from server.protocols.backend_api.texts import Language, told
from server.protocols.port import Timings
from server.protocols.sse import EVENT_STREAM, KEEP_ALIVE

FINISHED = "Stream finished"


class BackendApiWire:
    """Encodes one turn for one client."""

    def __init__(self, form: Literal["events", "lines"], language: Language) -> None:
        self._events = form == "events"
        self._language = language
        self._words: list[str] = []
        self.media_type = EVENT_STREAM if self._events else "application/x-ndjson"
        self.keep_alive = KEEP_ALIVE if self._events else b"\n"

    def stream(self, events: Iterable[Event]) -> bytes:
        """Return the bytes that these events add to the stream; often none."""
        return b"".join([self._frame("message", text) for text in self._heard(events)])

    def stream_end(self, timings: Timings | None = None) -> bytes:
        """Return the last bytes of a stream that ends well: the whole answer once more. This API has no times."""
        return self._frame("done", FINISHED) + self._frame("full_response", "".join(self._words))

    def stream_error(self, error: ApiError) -> bytes:
        """Return the last bytes of a stream that fails."""
        return self._frame("error", told(error, self._language))

    def fold(self, events: Iterable[Event]) -> None:
        """Add these events to the body. The documented clients of `llm-backend-api` always stream."""
        self._heard(events)

    def body(self, timings: Timings | None = None) -> bytes:
        """Return the whole answer as JSON."""
        return orjson.dumps({"event": "full_response", "data": "".join(self._words)})

    def refusal(self, error: ApiError) -> bytes:
        """Return the body of an error reply."""
        return orjson.dumps({"error": told(error, self._language)})

    def name_after(self, turn_id: str) -> None:
        """Do nothing: the events of `llm-backend-api` have no ids."""

    def _heard(self, events: Iterable[Event]) -> list[str]:
        texts = [event.text for event in events if isinstance(event, Say | Filler | Fallback) and event.text]
        self._words += texts
        return texts

    def _frame(self, event: str, data: str) -> bytes:
        line = orjson.dumps({"event": event, "data": data})
        return b"data: %b\n\n" % line if self._events else line + b"\n"
