"""JSON over HTTP to a server that the operator chose: no redirects, a deadline, a size limit, no secrets in errors."""

import asyncio
from typing import Any

import aiohttp
import orjson

from dialgraph.http_client import HttpSession

_LARGEST_ANSWER = 64 * 2**20
_CONNECT_SECONDS = 3.0


class HttpError(Exception):
    """The server did not answer as expected."""

    def __init__(self, said: str, *, passing: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(said)
        self.passing = passing
        """Whether the error may be temporary."""
        self.retry_after = retry_after
        """Seconds to wait, as the server asked; at most ten."""


class JsonClient:
    """A client for one server. It opens at first use, in the event loop that uses it."""

    def __init__(self, base_url: str, api_key: str) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"{base_url!r} is not a valid address. Accepted: http://… or https://….")
        self._base_url = base_url
        headers = {"Content-Type": "application/json", "User-Agent": "dialgraph"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._session = HttpSession(_CONNECT_SECONDS, headers, decompress=True)

    async def post(self, path: str, body: object, seconds: float) -> Any:
        """Post a JSON body and return the JSON of the answer. Raises HttpError."""
        try:
            async with asyncio.timeout(seconds):
                return await self._post(path, body)
        except TimeoutError as error:
            raise HttpError(f"the server did not answer within {seconds:g} s", passing=True) from error
        except aiohttp.ClientError as error:
            raise HttpError(f"the server cannot be reached ({type(error).__name__})", passing=True) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.aclose()

    async def _post(self, path: str, body: object) -> Any:
        data = orjson.dumps(body)
        async with self._session.open().post(self._base_url + path, data=data, allow_redirects=False) as response:
            answer = bytearray()
            async for part in response.content.iter_any():
                answer += part
                if len(answer) > _LARGEST_ANSWER:
                    raise HttpError("the server's answer is too long")
            if response.status != 200:
                after = response.headers.get("retry-after", "")
                wait = min(float(after), 10.0) if after.replace(".", "", 1).isdigit() else 0.0
                passing = response.status in (408, 429) or response.status >= 500
                raise HttpError(f"the server answered with {response.status}", passing=passing, retry_after=wait)
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise HttpError("the server's answer is not valid JSON") from error
