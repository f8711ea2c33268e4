"""The connections to one upstream server: sends requests, and classifies the server's refusals."""

import logging
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import aiohttp
import orjson

from dialgraph.http_client import HttpSession, kind_of_status
from dialgraph.models.errors import ModelError
from dialgraph.models.port import ModelAddress
from dialgraph.models.relay.decompress import UnpackError, unpacker
from dialgraph.models.relay.event_stream import Opened, opened
from dialgraph.models.relay.failures import error_of, kind_of_error, may_pass, refused_fields
from dialgraph.models.relay.learned_refusals import KNOWN
from dialgraph.models.relay.odd_json import read_json
from dialgraph.models.relay.proxy import proxy_options
from dialgraph.models.relay.request_body import written
from dialgraph.models.relay.upstream_url import upstream_url

log = logging.getLogger(__name__)

_REFUSAL_BYTES: Final = 64 * 1024


class RefusedError(ModelError):
    """A refusal that another attempt may avoid: the server's fault may pass, or the server refuses a field."""

    def __init__(self, error: ModelError, *, may_pass: bool, fields: frozenset[str] = frozenset()) -> None:
        super().__init__(error.kind, str(error), retry_after=error.retry_after)
        self.may_pass = may_pass
        self.fields = fields


class UpstreamSession:
    """The requests to one upstream server, over one session."""

    def __init__(
        self, name: str, address: ModelAddress, connector: Callable[[], aiohttp.BaseConnector] | None = None
    ) -> None:
        """`connector`: for addresses that users give; these are reached without a proxy. Raise ValueError."""
        self._name = name
        self._address = address
        self._url = upstream_url(name, address.url)
        self.host = self._url.host
        self._options: dict[str, Any] = {} if connector else proxy_options(self._url.completions)
        if address.ca_file:
            self._options["ssl"] = _trusting(name, address.ca_file)
        self._session = HttpSession(address.connect_seconds, connector=connector)

    async def touch(self, seconds: float) -> bool:
        """Return whether the server answers anything at all. Leave a connection open."""
        try:
            async with self._session.open().get(
                self._url.models,
                headers=self._headers(self._address.api_key.get_secret_value()),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds),
                **self._options,
            ) as response:
                await response.read()  # to its end: only then does the connection return to the pool
        except (aiohttp.ClientError, TimeoutError):
            return False
        return True

    async def post(self, body: Mapping[str, Any], key: str, stack: AsyncExitStack) -> Opened:
        """Return a response that has begun; it is closed with the stack. `key` replaces the key in the settings.

        Raise RefusedError, ModelError or TimeoutError.
        """
        try:
            data = await written(body)
        except orjson.JSONEncodeError as error:  # orjson reads deeper nesting than it writes
            raise ModelError("rejected", "The request is nested too deeply.") from error
        try:
            response = await self._session.open().post(
                self._url.completions,
                data=data,
                headers=self._headers(key or self._address.api_key.get_secret_value()),
                allow_redirects=False,
                **self._options,
            )
            # Closing is synchronous, so that no cancellation can interrupt it. A finished response ignores it.
            stack.callback(response.close)
            found = await opened(self._name, response) if response.status == 200 else None
        except aiohttp.ServerTimeoutError as error:
            raise ModelError("timeout", f"The model {self._name!r} did not begin to answer in time.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a key with a line break is a ValueError
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
        await self._session.aclose()

    async def _refusal(self, response: aiohttp.ClientResponse, body: Mapping[str, Any]) -> RefusedError:
        """Return the error for a status other than 200. The log names the refused fields and quotes no content."""
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


def _trusting(name: str, ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts these certificates in addition to the system's. Raise ValueError."""
    try:
        context = ssl.create_default_context()
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError):
        raise ValueError(f"model {name!r}: `ca_file` cannot be read as a file of PEM certificates.") from None
    return context
