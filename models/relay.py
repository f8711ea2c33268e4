"""The fast path: any server that speaks OpenAI chat completions, bytes in, parts out, over one aiohttp session.

aiohttp because its connection pool survives cancellation, which a voice agent does at every barge-in; httpx 0.28 leaves
its slots taken for ever (docs/decisions). Nothing here builds a model object per chunk.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager, suppress
from io import BytesIO
from typing import Final

import aiohttp
import orjson

from models.answer import Part
from models.breaker import Breaker
from models.completion import CompletionReader
from models.errors import KINDS_BY_STATUS, Kind, ModelError
from models.port import ChatRequest, ModelAddress
from models.silence import SilenceWatch
from models.sse import EventReader, EventTooLargeError, ServerSentEvent

log = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 3
"""Requests an upstream may see for one answer; only this layer retries, and only before the first byte."""
KEEP_ALIVE_SECONDS: Final = 75
"""How long an idle connection is kept: a pause in a call must not cost the next turn a handshake."""
PREWARMED_CONNECTIONS: Final = 4
_LARGE_BODY_BYTES: Final = 1_000_000
_END_SECONDS: Final = 0.02
"""An upstream that holds the stream open behind its last word loses the connection, not the caller's time."""
_RETRIED_STATUSES: Final = frozenset({500, 502, 503})


def _connector() -> aiohttp.BaseConnector:
    return aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)


class RelayModel:
    """One upstream server. Opens its session at the first use, inside the running event loop."""

    def __init__(
        self, name: str, address: ModelAddress, connector: Callable[[], aiohttp.BaseConnector] = _connector
    ) -> None:
        self._name = name
        self._connector = connector
        self._address = address
        self._base = address.url.rstrip("/").removesuffix("/chat/completions")
        self._session: aiohttp.ClientSession | None = None
        self.running = 0
        """Answers that are under way."""
        self._counts = True
        """Whether it is asked what an answer cost; some servers refuse a field that they do not know."""
        self.breaker = Breaker(name, address.away_seconds, self._looks)

    async def prewarm(self) -> None:
        """Open connections before the first call; an upstream that is away now may be there later."""
        wait = self._address.deadlines.connect
        touched = await asyncio.gather(*(self._touch(wait) for _ in range(PREWARMED_CONNECTIONS)))
        if not all(touched):
            log.warning("an upstream did not answer the prewarming request", extra={"model": self._name})

    async def _looks(self) -> bool:
        """Whether the server answers anything at all."""
        return await self._touch(min(1.0, self._address.deadlines.connect))

    async def _touch(self, seconds: float) -> bool:
        try:
            async with self._open().get(
                f"{self._base}/models",
                headers=self._headers(self._address.api_key),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                await response.read()  # to its end: only then the connection goes back to the pool
        except (aiohttp.ClientError, TimeoutError):
            return False
        return True

    async def stream(self, request: ChatRequest, stack: AsyncExitStack) -> AsyncGenerator[Part, None]:
        """See the port."""
        reader = CompletionReader(self._name)
        with self._speaking(), self.breaker.attempt() as attempt:
            response = await self._connect(request, stack)
            attempt.connected()
            async with aclosing(self._events(response)) as events:
                async for event in events:
                    attempt.answered()
                    if event.data == b"[DONE]":
                        break
                    chunk = self._decode(event.data)
                    if event.name == b"error" or (isinstance(chunk, dict) and chunk.get("error")):
                        raise ModelError(_error_kind(chunk), f"The model {self._name!r} reported an error.")
                    for part in reader.read(chunk):
                        yield part
            for closing in reader.end():
                yield closing
            await self._let_end(response)

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    async def aclose(self) -> None:
        """Close the session and its connections."""
        await self.breaker.aclose()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            deadlines = self._address.deadlines
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                timeout=aiohttp.ClientTimeout(
                    # aiohttp's own total, not asyncio.timeout: that would cancel whoever holds this generator.
                    total=deadlines.total,
                    sock_connect=deadlines.connect,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    def _headers(self, key: str) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
            "User-Agent": "dialgraph",
        }
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return headers

    def _body(self, request: ChatRequest) -> bytes:
        model = {"model": request.model or self._address.model}
        body = {**request.parameters, **(model if model["model"] else {}), "messages": request.messages, "stream": True}
        if not self._counts:
            body.pop("stream_options", None)
        else:
            options = request.parameters.get("stream_options")
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        try:
            return orjson.dumps(body)
        except orjson.JSONEncodeError as error:  # it reads deeper nesting than it writes
            raise ModelError("rejected", "The request is nested too deeply.") from error

    async def _connect(self, request: ChatRequest, stack: AsyncExitStack) -> aiohttp.ClientResponse:
        """A response that has begun to answer, after at most `MAX_ATTEMPTS` requests within the first-byte deadline."""
        headers = self._headers(request.api_key or self._address.api_key)
        try:
            async with asyncio.timeout(self._address.deadlines.first_byte):
                for attempt in range(1, MAX_ATTEMPTS + 1):
                    try:
                        return await self._post(self._body(request), headers, stack)
                    except ModelError as error:
                        if error.kind not in ("unreachable", "unavailable", "failed") or attempt == MAX_ATTEMPTS:
                            raise
                    await asyncio.sleep(0.05 * 2**attempt * (0.5 + random.random()))  # noqa: S311 (jitter is no secret)
        except TimeoutError as error:
            raise ModelError("timeout", f"The model {self._name!r} did not begin to answer in time.") from error
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, body: bytes, headers: dict[str, str], stack: AsyncExitStack) -> aiohttp.ClientResponse:
        # Pictures and sound: a large body is handed over in pieces, so that it does not hold up every other call.
        data = BytesIO(body) if len(body) > _LARGE_BODY_BYTES else body
        try:
            response = await self._open().post(
                f"{self._base}/chat/completions", data=data, headers=headers, allow_redirects=False
            )
        except aiohttp.ServerTimeoutError as error:
            raise ModelError("timeout", f"The model {self._name!r} did not begin to answer in time.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a key with a line end is a ValueError
            raise ModelError("unreachable", f"The model {self._name!r} cannot be reached.") from error
        # Closing is synchronous, so that no cancellation can cut it half-way; a finished response ignores it.
        stack.callback(response.close)
        if response.status == 200:
            return response
        retry_after = response.headers.get("Retry-After")
        if self._counts and response.status in (400, 422) and await _names(response, b"stream_options"):
            self._counts = False  # it does not know that field; without it the same request may be right
            raise ModelError("failed", f"The model {self._name!r} does not count tokens.")
        response.close()
        log.warning("an upstream refused a request", extra={"model": self._name, "upstream_status": response.status})
        kind = KINDS_BY_STATUS.get(response.status, "failed")
        # Any further status over 400 is final too: only a passing fault of the server is worth another try.
        if kind == "failed" and response.status not in _RETRIED_STATUSES:
            kind = "rejected" if 400 <= response.status < 500 else "malformed"
        raise ModelError(
            kind, f"The model {self._name!r} answered with status {response.status}.", retry_after=retry_after
        )

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncGenerator[ServerSentEvent, None]:
        reader = EventReader()
        with SilenceWatch(self._address.deadlines.idle, response.close) as silence:
            try:
                while True:
                    silence.waiting()
                    data = await response.content.readany()
                    silence.heard()
                    if not data:
                        break
                    for event in reader.feed(data):
                        yield event
                for event in reader.end():
                    yield event
            except EventTooLargeError as error:
                raise ModelError("malformed", f"The model {self._name!r} sent {error}.") from error
            except TimeoutError as error:
                raise ModelError("timeout", f"The model {self._name!r} took too long to answer.") from error
            except (aiohttp.ClientError, OSError) as error:
                if silence.fired:
                    raise ModelError("stalled", f"The model {self._name!r} fell silent.") from error
                raise ModelError("incomplete", f"The model {self._name!r} was cut off.") from error

    async def _let_end(self, response: aiohttp.ClientResponse) -> None:
        """Read what stands behind `[DONE]`, so that the connection can serve the next turn."""
        with suppress(aiohttp.ClientError, OSError):
            async with asyncio.timeout(_END_SECONDS):
                while await response.content.readany():
                    pass

    def _decode(self, data: bytes) -> object:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise ModelError("malformed", f"The model {self._name!r} sent what is no JSON.") from error


async def _names(response: aiohttp.ClientResponse, field: bytes) -> bool:
    """Whether the beginning of a refusal names the field."""
    try:
        return field in await response.content.read(4096)
    except (aiohttp.ClientError, OSError):
        return False
    finally:
        response.close()


def _error_kind(chunk: object) -> Kind:
    """The kind of an error inside a stream; some upstreams put the status there as its code."""
    error = chunk.get("error") if isinstance(chunk, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return KINDS_BY_STATUS.get(code, "failed") if isinstance(code, int) else "failed"
