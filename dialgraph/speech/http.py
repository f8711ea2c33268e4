"""An HTTP client for the operator's speech servers: deadlines, no redirects, and errors that reveal no secrets."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from dialgraph.http_client import HttpSession, kind_of_status
from dialgraph.speech.port import Deadlines, VoiceError

log = logging.getLogger(__name__)

_PASSING = frozenset({500, 502, 503})
_PAUSE_SECONDS = 0.1


class SpeechClient:
    """The client of one server. Its session is opened at the first use, in the event loop that uses it."""

    def __init__(self, what: str, url: str, api_key: str, deadlines: Deadlines) -> None:
        if not urlsplit(url).hostname:
            raise ValueError(
                f"{what[0].lower()}{what[1:]}: {url!r} is not an address. Accepted: http://… or https://…."
            )
        self._what = what
        """Its name in errors: `The voice 'main'`."""
        self._url = url.rstrip("/")
        headers = {"User-Agent": "dialgraph", "Accept-Encoding": "identity"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._deadlines = deadlines
        self._session = HttpSession(deadlines.connect, headers)
        self.healthy = True
        """Whether the server answered the last request."""

    @asynccontextmanager
    async def post(self, path: str, **body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield a reply that has begun, with status 200. Leaving the block closes its connection, unless the reply was
        read to its end. Raise VoiceError.
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
                    kind = kind_of_status(response.status)
                    raise VoiceError(kind, f"{self._what} answered with status {response.status}.")
                yield response
            finally:
                response.close()

    async def parts(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        """Yield the reply's bytes as they arrive. Raise VoiceError."""
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
                raise VoiceError("stalled", f"{self._what} stopped sending data.") from None

    async def touch(self) -> None:
        """Open a connection before the first sentence. A failure is only logged: the server may be back later."""
        try:
            async with asyncio.timeout(self._deadlines.connect):
                async with self._session.open().get(f"{self._url}/models", allow_redirects=False) as response:
                    await response.read()
                self.healthy = True
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.healthy = False
            log.warning("a speech server did not answer the prewarming request", extra={"server": self._what})

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.aclose()

    async def _begun(self, path: str, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        """Send the request. After a fault that may pass, try once more: the caller has heard nothing of it yet."""
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
        return await self._session.open().post(f"{self._url}{path}", allow_redirects=False, **body)

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except aiohttp.ClientConnectorError as error:
            self.healthy = False
            raise VoiceError("unreachable", f"{self._what} cannot be reached.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a key with a line break is a ValueError
            raise VoiceError("incomplete", f"{self._what} was cut off.") from error


def with_file(fields: Mapping[str, str], sound: bytes, form: str) -> aiohttp.FormData:
    """Return a form body with these fields and one audio file."""
    body = aiohttp.FormData(fields)
    body.add_field("file", sound, filename=f"speech.{form}", content_type=f"audio/{form}")
    return body
