"""An upstream's response as a stream of events: decompressed, checked for silence, and ended by its finish reason."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from dialgraph.models.errors import ModelError
from dialgraph.models.port import ModelAddress
from dialgraph.models.relay.completion import CompletionReader
from dialgraph.models.relay.decompress import Unpack, UnpackError, unpacker
from dialgraph.models.relay.odd_json import read_json
from dialgraph.models.relay.silence_watch import SilenceWatch
from dialgraph.models.relay.sse import EventReader, EventTooLargeError, ServerSentEvent

END_SECONDS: Final = 1.0
"""How long to wait for the usage after the finish reason. Some servers never close the connection."""
MAX_WHOLE_BYTES: Final = 16 * 1024 * 1024
_BLANKS: Final = b" \t\r\n\xef\xbb\xbf"


@dataclass(slots=True)
class Opened:
    """A response that has begun."""

    response: aiohttp.ClientResponse
    unpack: Unpack | None
    first: bytes = b""
    """Bytes that were already read."""
    whole: Any = None
    """The JSON of the whole response, if the server does not stream."""

    async def read(self) -> bytes:
        """Return the next bytes, decompressed; empty at the end."""
        if self.first:
            first, self.first = self.first, b""
            return first
        data = await self.response.content.readany()
        if self.unpack is None or not data:
            return data
        return b"".join(self.unpack(data)) or await self.read()


async def opened(name: str, response: aiohttp.ClientResponse) -> Opened:
    """Return the response as opened. If it is not declared as an event stream, read its first bytes.

    Some servers send JSON or a web page with status 200. Raise ModelError, aiohttp's errors and TimeoutError.
    """
    try:
        found = Opened(response, unpacker(response.headers.get("Content-Encoding", "")))
    except UnpackError as error:
        raise ModelError("malformed", f"The model {name!r} sent {error}.") from None
    if response.content_type == "text/event-stream":
        return found
    try:
        data = await found.read()
        while data and not data.lstrip(_BLANKS):
            data += await found.read() or b"\n\n"
        mark = data.lstrip(_BLANKS)[:1]
        if mark == b"<":
            raise ModelError("malformed", f"The model {name!r} sent a web page instead of an answer.")
        if mark not in (b"{", b"["):
            found.first = data
            return found
        data = await _all_of(name, found, data)
    except UnpackError as error:
        raise ModelError("malformed", f"The model {name!r} sent {error}.") from None
    try:
        found.whole = read_json(data)
    except ValueError:
        raise ModelError("malformed", f"The model {name!r} sent invalid JSON.") from None
    return found


async def _all_of(name: str, stream: Opened, data: bytes) -> bytes:
    while more := await stream.read():
        data += more
        if len(data) > MAX_WHOLE_BYTES:
            raise ModelError("malformed", f"The model {name!r} sent a response of over {MAX_WHOLE_BYTES} bytes.")
    return data


class EventStream:
    """The events of a response that has begun: iterate over it inside `with`. After the finish reason, silence and a
    broken connection also count as the end.
    """

    def __init__(self, name: str, stream: Opened, reader: CompletionReader, address: ModelAddress) -> None:
        """`reader` reads the events, so it knows which of them have content and when the answer is finished."""
        self._name = name
        self._stream = stream
        self._reader = reader
        self._lines = EventReader()
        self._silence = SilenceWatch(address.idle_seconds, address.total_seconds, stream.response.close)
        self._now = asyncio.get_running_loop().time
        self._since = self._now()
        """The time of the last content."""
        self._content = stream.response.content
        self._plain = stream.unpack is None and not stream.first
        """Whether the bytes can be read directly from the connection."""
        self._progress = -1
        """The reader's progress before the last events."""
        self._over = False

    def __enter__(self) -> Self:
        self._silence.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._silence.__exit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[ServerSentEvent]:
        """Return the events that the next bytes complete. Raise ModelError."""
        if self._over:
            raise StopAsyncIteration
        reader, silence = self._reader, self._silence
        # Comments and empty chunks do not count as activity: the caller hears nothing from them.
        if reader.progress != self._progress or self._lines.begun:
            self._since = self._now()
        if reader.finished:
            silence.shorten(END_SECONDS)
        try:
            silence.since = self._since
            data = await (self._content.readany() if self._plain else self._stream.read())
            silence.since = None
            if self._progress < 0 and data.lstrip(_BLANKS)[:1] in (b"{", b"["):  # JSON declared as an event stream
                self._over = True
                return [ServerSentEvent(b"", (await _all_of(self._name, self._stream, data)).lstrip(_BLANKS))]
            self._over = not data
            found = self._lines.feed(data) if data else self._lines.end()
        except (EventTooLargeError, UnpackError) as error:
            raise ModelError("malformed", f"The model {self._name!r} sent {error}.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._ended() from error
        self._progress, self._plain = reader.progress, self._stream.unpack is None
        return found

    def _ended(self) -> Exception:
        if self._reader.finished:
            return StopAsyncIteration()
        if self._silence.reason == "silent":
            return ModelError("stalled", f"The model {self._name!r} stopped sending data.")
        if self._silence.reason == "late":
            return ModelError("timeout", f"The model {self._name!r} took too long to answer.")
        return ModelError("incomplete", f"The answer of the model {self._name!r} was cut off.")
