"""The connections to one upstream server: requests that begin to answer, and what its refusals mean."""

import logging
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import aiohttp
import orjson

from dialgraph.models.errors import ModelError
from dialgraph.models.port import ModelAddress
from dialgraph.models.relay.decompress import UnpackError, unpacker
from dialgraph.models.relay.event_stream import Opened, opened
from dialgraph.models.relay.failures import error_of, kind_of_error, kind_of_status, may_pass, refused_fields
from dialgraph.models.relay.learned_refusals import KNOWN
from dialgraph.models.relay.odd_json import read_json
from dialgraph.models.relay.proxy import proxy_options
from dialgraph.models.relay.request_body import written
from dialgraph.models.relay.upstream_url import upstream_url

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS: Final = 75
"""How long an idle connection is kept: a pause in a call must not cost the next turn a handshake."""
_REFUSAL_BYTES: Final = 64 * 1024


class RefusedError(ModelError):
    """A refusal that another try may not meet: the fault of the server passes, or it does not take a field."""

    def __init__(self, error: ModelError, *, may_pass: bool, fields: frozenset[str] = frozenset()) -> None:
        super().__init__(error.kind, str(error), retry_after=error.retry_after)
        self.may_pass = may_pass
        self.fields = fields


class UpstreamSession:
    """One aiohttp session, opened at the first use, inside the running event loop."""

    def __init__(
        self, name: str, address: ModelAddress, connector: Callable[[], aiohttp.BaseConnector] | None = None
    ) -> None:
        """`connector`: for addresses that users give; they are reached without a proxy. Raises ValueError."""
        self._name = name
        self._connector = connector or _connector
        self._address = address
        self._url = upstream_url(name, address.url)
        self.host = self._url.host
        self._options: dict[str, Any] = {} if connector else proxy_options(self._url.completions)
        if address.ca_file:
            self._options["ssl"] = _trusting(name, address.ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def touch(self, seconds: float) -> bool:
        """Return whether the server answers anything at all; leaves a connection open."""
        try:
            async with self._open().get(
                self._url.models,
                headers=self._headers(self._address.api_key.get_secret_value()),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds),
                **self._options,
            ) as response:
                await response.read()  # to its end: only then the connection goes back to the pool
        except (aiohttp.ClientError, TimeoutError):
            return False
        return True

    async def post(self, body: Mapping[str, Any], key: str, stack: AsyncExitStack) -> Opened:
        """A response that has begun to answer; it is closed with the stack. `key` takes the place of the settings' own.

        Raises RefusedError, ModelError and TimeoutError.
        """
        try:
            data = await written(body)
        except orjson.JSONEncodeError as error:  # it reads deeper nesting than it writes
            raise ModelError("rejected", "The request is nested too deeply.") from error
        try:
            response = await self._open().post(
                self._url.completions,
                data=data,
                headers=self._headers(key or self._address.api_key.get_secret_value()),
                allow_redirects=False,
                **self._options,
            )
            # Closing is synchronous, so that no cancellation can cut it half-way; a finished response ignores it.
            stack.callback(response.close)
            found = await opened(self._name, response) if response.status == 200 else None
        except aiohttp.ServerTimeoutError as error:
            raise ModelError("timeout", f"The model {self._name!r} did not begin to answer in time.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a key with a line end is a ValueError
            if isinstance(error, TimeoutError):
                raise
            away = ModelError("unreachable", f"The model {self._name!r} cannot be reached.")
            raise RefusedError(away, may_pass=True) from error
        if found is None:
            raise await self._refusal(response, body)
        if (reported := error_of(found.whole)) is not None:
            kind = kind_of_error(reported)
            told = ModelError(kind, f"The model {self._name!r} reported an error.")
            raise RefusedError(told, may_pass=kind in ("unavailable", "failed"))
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _refusal(self, response: aiohttp.ClientResponse, body: Mapping[str, Any]) -> RefusedError:
        """What a status other than 200 means. The log names the fields that were refused, and nothing that was said."""
        said = b""
        with suppress(aiohttp.ClientError, OSError, UnpackError):
            said = await response.content.read(_REFUSAL_BYTES)
            if unpack := unpacker(response.headers.get("Content-Encoding", "")):
                said = next(unpack(said), b"")
        response.close()
        try:
            error = error_of(read_json(said)) or said
        except ValueError:
            error = said.decode("utf-8", "replace")
        status = response.status
        fields = refused_fields(error, body) if status in (400, 422) else []
        log.warning(
            "an upstream refused a request",
            extra={"model": self._name, "upstream_status": status, **({"fields": fields} if fields else {})},
        )
        told = f"The model {self._name!r} answered with status {status}."
        refusal = ModelError(kind_of_status(status), told, retry_after=response.headers.get("Retry-After"))
        return RefusedError(refusal, may_pass=may_pass(status), fields=KNOWN.intersection(fields))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                # No total: aiohttp would look at the clock at each read (see SilenceWatch).
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._address.connect_seconds),
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
            if self._url.takes_api_key_header:
                headers["api-key"] = key
        return headers


def _connector() -> aiohttp.BaseConnector:
    return aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)


def _trusting(name: str, ca_file: str) -> ssl.SSLContext:
    """A context that trusts these certificates beside the system's. Raises ValueError."""
    try:
        context = ssl.create_default_context()
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError):
        raise ValueError(f"model {name!r}: the file of `ca_file` cannot be read as certificates (PEM).") from None
    return context
