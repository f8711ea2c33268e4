"""Bytes of an event stream → its events, as the WHATWG specification defines, wherever the bytes were split."""

from typing import NamedTuple

MAX_EVENT_BYTES = 1_048_576


class ServerSentEvent(NamedTuple):
    """One event. `name` is empty if the stream does not name it."""

    name: bytes
    data: bytes


class EventTooLargeError(ValueError):
    """A line or an event is over the limit: no upstream may fill our memory."""


class EventReader:
    """An incremental reader: call `feed` with each piece of bytes, then `end()` once.

    Only CRLF, LF and CR end a line (not U+2028, which JSON text may contain). A byte order mark at the start is
    dropped. Unlike in the specification, an event at the end of the stream without its blank line is still returned:
    several servers end there, and a reader of JSON notices if it was cut.
    """

    __slots__ = ("_after_cr", "_data", "_limit", "_line", "_name", "_size", "_started")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._line = bytearray()
        self._data: list[bytes] = []
        self._name = b""
        self._size = 0
        self._started = False
        self._after_cr = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that these bytes complete."""
        if (
            data[:6] == b"data: "
            and data.find(b"\n") == len(data) - 2 <= self._limit
            and data[-1:] == b"\n"
            and self._started
            and not (self._line or self._data or self._name or b"\r" in data)
        ):  # the usual case: one event of one line
            return [ServerSentEvent(b"", data[6:-2])]
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in data:
            self._keep(data)
            return []
        first, *lines = data.split(b"\n")
        self._keep(first)
        events: list[ServerSentEvent] = []
        self._take(bytes(self._line), events)
        self._line.clear()
        for line in lines[:-1]:
            self._take(line, events)
        self._keep(lines[-1])
        return events

    @property
    def begun(self) -> bool:
        """Return whether part of an event has arrived, but not its end. A comment is not an event."""
        return bool(self._data) or (bool(self._line) and not self._line.startswith(b":"))

    def end(self) -> list[ServerSentEvent]:
        """Return the event that the end of the stream completes, if any."""
        events: list[ServerSentEvent] = []
        self._take(bytes(self._line), events)
        self._take(b"", events)
        return events

    def _keep(self, piece: bytes) -> None:
        self._line += piece
        if len(self._line) + self._size > self._limit:
            raise EventTooLargeError(f"an event of over {self._limit} bytes")

    def _take(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if not self._started:
            self._started = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                events.append(ServerSentEvent(self._name, data))
                self._data = []
                self._size = 0
            self._name = b""
        elif line.startswith(b"data:"):
            value = line[6:] if line.startswith(b"data: ") else line[5:]
            self._size += len(value) + 1
            if self._size > self._limit:
                raise EventTooLargeError(f"an event of over {self._limit} bytes")
            self._data.append(value)
        elif line.startswith(b"event:"):
            self._name = line[6:].removeprefix(b" ")
        elif line == b"data":
            self._take(b"data:", events)
        # Comments, ids, retry times and unknown fields are ignored.
