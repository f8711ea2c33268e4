"""An upstream's response as it comes: unpacked, cut into events, watched for silence, ended by its finish."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from models.completion import CompletionReader
from models.errors import ModelError
from models.odd_json import read_json
from models.silence import SilenceWatch
from models.sse import EventReader, EventTooLargeError, ServerSentEvent
from models.unpack import Unpack, UnpackError, unpacker

END_SECONDS: Final = 1.0
"""How long to wait for the usage after the finish reason: some servers keep the connection open for ever."""
MAX_WHOLE_BYTES: Final = 16 * 1024 * 1024
_BLANKS: Final = b" \t\r\n\xef\xbb\xbf"


@dataclass(slots=True)
class Opened:
    """A response that has begun."""

    response: aiohttp.ClientResponse
    unpack: Unpack | None
    first: bytes = b""
    """What was read of it already."""
    whole: Any = None
    """Its JSON, where the server does not stream."""

    async def read(self) -> bytes:
        """The next bytes, unpacked; empty at the end."""
        if self.first:
            first, self.first = self.first, b""
            return first
        data = await self.response.content.readany()
        if self.unpack is None or not data:
            return data
        return b"".join(self.unpack(data)) or await self.read()


async def opened(name: str, response: aiohttp.ClientResponse) -> Opened:
    """Look at what has come, if it does not call itself an event stream: some send JSON or a web page with status 200.

    Raises ModelError, aiohttp's errors and TimeoutError.
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
            raise ModelError("malformed", f"The model {name!r} sent a web page in place of an answer.")
        if mark not in (b"{", b"["):
            found.first = data
            return found
        data = await _all_of(name, found, data)
    except UnpackError as error:
        raise ModelError("malformed", f"The model {name!r} sent {error}.") from None
    try:
        found.whole = read_json(data)
    except ValueError:
        raise ModelError("malformed", f"The model {name!r} sent JSON that cannot be read.") from None
    return found


async def _all_of(name: str, stream: Opened, data: bytes) -> bytes:
    while more := await stream.read():
        data += more
        if len(data) > MAX_WHOLE_BYTES:
            raise ModelError("malformed", f"The model {name!r} sent over {MAX_WHOLE_BYTES} bytes at once.")
    return data


async def events(
    name: str, stream: Opened, reader: CompletionReader, idle_seconds: float
) -> AsyncGenerator[ServerSentEvent, None]:
    """The events with data. After the finish silence and a cut connection are an end too. Raises ModelError."""
    lines = EventReader()
    nothing_yet = True
    silent: float | None = None
    with SilenceWatch(idle_seconds, stream.response.close) as silence:
        try:
            while True:
                silence.waiting(silent)
                data = await stream.read()
                since = silence.pause()
                if not data:
                    break
                if nothing_yet and data.lstrip(_BLANKS)[:1] in (b"{", b"["):  # JSON that calls itself a stream
                    yield ServerSentEvent(b"", (await _all_of(name, stream, data)).lstrip(_BLANKS))
                    return
                nothing_yet = False
                found = lines.feed(data)
                before = reader.progress
                for event in found:
                    if event.data:
                        yield event
                # Comments and empty chunks are no sign of life: the caller hears as little as if nothing came.
                silent = None if lines.begun or reader.progress != before else since
                if reader.finished:
                    silence.shorten(END_SECONDS)
            for event in lines.end():
                if event.data:
                    yield event
        except (EventTooLargeError, UnpackError) as error:
            raise ModelError("malformed", f"The model {name!r} sent {error}.") from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError too, which is aiohttp's total
            if reader.finished:
                return
            if isinstance(error, TimeoutError) and not silence.fired:
                raise ModelError("timeout", f"The model {name!r} took too long to answer.") from error
            if silence.fired:
                raise ModelError("stalled", f"The model {name!r} fell silent.") from error
            raise ModelError("incomplete", f"The model {name!r} was cut off.") from error
