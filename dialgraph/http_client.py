"""What all clients of other servers share: a session that leaks nothing, and what a status means."""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import aiohttp

KEEP_ALIVE_SECONDS: Final = 75
"""How long an idle connection stays open: a pause in a call must not cost the next sentence a handshake."""

Kind = Literal[
    "unreachable",  # no connection: refused, reset, unknown host
    "timeout",  # no first byte in time, or the total deadline passed
    "stalled",  # silence in the middle of an answer
    "rejected",  # the server or the engine does not accept the request
    "unauthorized",  # the server refused the key
    "not_found",  # no such model, voice or path
    "rate_limited",
    "unavailable",
    "failed",  # any other failure, including one of an engine's process
    "malformed",  # the answer cannot be read
    "incomplete",  # the answer was cut off
    "empty",  # the answer ended without a word or a tool call
]
"""Why a server did not answer."""
_KINDS: Final[Mapping[int, Kind]] = {
    400: "rejected",
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    408: "unavailable",
    413: "rejected",
    422: "rejected",
    429: "rate_limited",
    498: "unavailable",  # Groq: no capacity
    503: "unavailable",
    504: "timeout",
    521: "unavailable",  # Cloudflare: the server behind it is down
    522: "timeout",
    523: "unavailable",
    524: "timeout",
    529: "unavailable",  # Anthropic: overloaded
}


def kind_of_status(status: int) -> Kind:
    """Return what a status other than 200 means."""
    if status in _KINDS:
        return _KINDS[status]
    if status >= 500:
        return "failed"
    return "rejected" if 400 <= status < 500 else "malformed"


class HttpSession:
    """One aiohttp session, opened at the first use inside the running event loop.

    It sends no cookies, takes no proxy from the environment, and has no total deadline, since an answer may be long.
    """

    def __init__(
        self,
        connect_seconds: float,
        headers: Mapping[str, str] | None = None,
        *,
        connector: Callable[[], aiohttp.BaseConnector] | None = None,
        decompress: bool = False,
    ) -> None:
        """`headers` go with every request. `connector` decides which addresses may be connected to."""
        self._connect_seconds = connect_seconds
        self._headers = headers
        self._connector = connector or _connector
        self._decompress = decompress
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> aiohttp.ClientSession:
        """Return the session."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                headers=self._headers,
                # No total: aiohttp would look at the clock at each read (measured: a fifth of the hot path).
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=self._decompress,
                trust_env=False,
            )
        return self._session

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _connector() -> aiohttp.BaseConnector:
    return aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
