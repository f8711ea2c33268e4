"""A speech server of the operator's over HTTP: deadlines, no redirects, and faults that tell no secret."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from dialgraph.speech.port import KINDS_BY_STATUS, Deadlines, VoiceError

log = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 75
"""A pause in a call must not cost the next sentence a handshake."""
_PASSING = frozenset({500, 502, 503})
_PAUSE_SECONDS = 0.1


class SpeechClient:
    """One server. Opened at the first use, in the event loop that uses it."""

    def __init__(self, what: str, url: str, api_key: str, deadlines: Deadlines) -> None:
        if not urlsplit(url).hostname:
            raise ValueError(f"{what[0].lower()}{what[1:]}: {url!r} is no address. Accepted: http://… or https://….")
        self._what = what
        """What errors call it: `the voice 'main'`."""
        self._url = url.rstrip("/")
        self._headers = {"User-Agent": "dialgraph", "Accept-Encoding": "identity"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._deadlines = deadlines
        self._session: aiohttp.ClientSession | None = None
        self.healthy = True
        """Whether the server answered the last time it was asked."""

    @asynccontextmanager
    async def post(self, path: str, **body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """A reply that has begun, with status 200; leaving the block closes its connection unless it was read to its
        end. Raises VoiceError.
        """
        with self._in_our_words():
            try:
                async with asyncio.timeout(self._deadlines.first_byte):
                    response = await self._begun(path, body)
                self.healthy = True
            except aiohttp.ServerTimeoutError:
                self.healthy = False
                raise VoiceError("unreachable", f"{self._what} cannot be reached.") from None
            except TimeoutError:
                self.healthy = False
                raise VoiceError("timeout", f"{self._what} did not begin to answer in time.") from None
            try:
                if response.status != 200:
                    log.warning(
                        "a speech server refused a request",
                        extra={"server": self._what, "path": path, "upstream_status": response.status},
                    )
                    kind = KINDS_BY_STATUS.get(response.status, "failed")
                    raise VoiceError(kind, f"{self._what} answered with status {response.status}.")
                yield response
            finally:
                response.close()

    async def parts(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        """The reply's bytes as they come. Raises VoiceError."""
        seconds = self._deadlines.first_byte
        while data := await self._read(response, seconds):
            yield data
            seconds = self._deadlines.idle

    async def _read(self, response: aiohttp.ClientResponse, seconds: float) -> bytes:
        with self._in_our_words():
            try:
                async with asyncio.timeout(seconds):
                    return await response.content.readany()
            except TimeoutError:
                raise VoiceError("stalled", f"{self._what} fell silent.") from None

    async def touch(self) -> None:
        """Open a connection before the first sentence; a server that is away now may be there later."""
        try:
            async with asyncio.timeout(self._deadlines.connect):
                async with self._open().get(f"{self._url}/models", allow_redirects=False) as response:
                    await response.read()
                self.healthy = True
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.healthy = False
            log.warning("a speech server did not answer the prewarming request", extra={"server": self._what})

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _begun(self, path: str, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        """Nothing has been heard yet: a fault that may pass is worth one more try, so that no call ends by a hiccup."""
        try:
            response = await self._post(path, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientConnectorError):
            return await self._post(path, body)
        if response.status not in _PASSING:
            return response
        response.close()
        await asyncio.sleep(_PAUSE_SECONDS)
        return await self._post(path, body)

    async def _post(self, path: str, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        return await self._open().post(f"{self._url}{path}", allow_redirects=False, **body)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No deadline for the whole, since a long sentence takes its time; and none of aiohttp's for a read, which
            # would count before the first byte too, where a server may take longer.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._deadlines.connect)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
                headers=self._headers,
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            self.healthy = False
            raise VoiceError("unreachable", f"{self._what} cannot be reached.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a key with a line end is a ValueError
            raise VoiceError("incomplete", f"{self._what} was cut off.") from error


def with_file(fields: Mapping[str, str], sound: bytes, form: str) -> aiohttp.FormData:
    """The body of a form with these fields and one file of sound."""
    body = aiohttp.FormData(fields)
    body.add_field("file", sound, filename=f"speech.{form}", content_type=f"audio/{form}")
    return body
