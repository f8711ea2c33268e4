"""The fast path to any server that speaks OpenAI chat completions: bytes in, parts out, over one aiohttp session.

It uses aiohttp because aiohttp's connection pool survives cancellation, and a voice agent cancels at every barge-in.
httpx 0.28 never frees the pool slots of cancelled requests (docs/decisions). No model object is built per chunk.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any, Final

import aiohttp

from dialgraph.models.breaker import Breaker
from dialgraph.models.declared_tools import declared_tools
from dialgraph.models.errors import ModelError
from dialgraph.models.history.accept import accepted
from dialgraph.models.history.dialect import dialect_of
from dialgraph.models.parts import Part
from dialgraph.models.port import ChatRequest, ModelAddress
from dialgraph.models.relay.completion import CompletionReader
from dialgraph.models.relay.event_stream import EventStream, Opened
from dialgraph.models.relay.failures import error_of, kind_of_error
from dialgraph.models.relay.learned_refusals import LearnedRefusals, adapted
from dialgraph.models.relay.model_loading import Loading
from dialgraph.models.relay.odd_events import OddEvents
from dialgraph.models.relay.session import RefusedError, UpstreamSession
from dialgraph.models.request_fields import passed_on

log = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 3
"""The most requests that an upstream gets for one answer. Only this layer retries, and only before the first byte."""
PREWARMED_CONNECTIONS: Final = 4
_DONE: Final = frozenset({b"[DONE]", b'"[DONE]"'})
_LONGEST_DONE: Final = 16
"""The most bytes of a `[DONE]` event, with blanks around it."""
_DRAIN_SECONDS: Final = 0.02
"""How long to wait for the end of the stream after the last word. An upstream that takes longer loses the connection,
so that the caller does not wait."""


class RelayModel:
    """One upstream server. Its session is opened at the first use, inside the running event loop."""

    def __init__(
        self, name: str, address: ModelAddress, connector: Callable[[], aiohttp.BaseConnector] | None = None
    ) -> None:
        """`connector`: for addresses that users give; these are reached without a proxy. Raise ValueError."""
        self._name = name
        self._address = address
        self._session = UpstreamSession(name, address, connector)
        self.running = 0
        """The number of answers in progress."""
        self._habits = LearnedRefusals()
        self._dialect = frozenset(address.dialect) or dialect_of(self._session.host)
        self._loading = Loading(name, address.load_seconds, self._load)
        self.breaker = Breaker(name, address.away_seconds, self._looks)

    async def prewarm(self) -> None:
        """Open connections before the first call. A failure is only logged: the upstream may be back later."""
        wait = self._address.connect_seconds
        touched = await asyncio.gather(*(self._session.touch(wait) for _ in range(PREWARMED_CONNECTIONS)))
        if not all(touched):
            log.warning("an upstream did not answer the prewarming request", extra={"model": self._name})

    async def _looks(self) -> bool:
        """Return whether the server answers anything at all."""
        return await self._session.touch(min(1.0, self._address.connect_seconds))

    async def stream(self, request: ChatRequest, stack: AsyncExitStack) -> AsyncGenerator[Part, None]:
        """Yield the parts of the upstream's answer, and put the response on `stack`."""
        await self._loading.wait()
        declared = declared_tools(request.parameters)
        reader = CompletionReader(self._name, declared, request.environment, thinks_first=self._address.thinks_first)
        odd = OddEvents(self._name)
        done = False
        with self._speaking(), self.breaker.attempt() as attempt:
            stream = await self._connect(request, stack)
            attempt.connected()
            if stream.whole is not None:
                attempt.answered()
                done = True
                for part in odd.read(reader, stream.whole):
                    yield part
            else:
                with EventStream(self._name, stream, reader, self._address) as events:
                    async for found in events:
                        for name, data in found:
                            if not data:
                                continue
                            if not attempt.answered_once:
                                attempt.answered()
                            if len(data) < _LONGEST_DONE and data.strip().upper() in _DONE:
                                done = True
                                break
                            chunk = odd.parsed(data)
                            odd_one = type(chunk) is dict and (not chunk.get("choices") or chunk.get("error"))
                            if odd_one or name == b"error":
                                self._raise_reported(name, chunk, reader)
                            for part in odd.read(reader, chunk):
                                yield part
                        if done:
                            break
            self._loading.answered()
            odd.log()
            for closing in reader.end(done=done):
                yield closing
            await self._let_end(stream.response)

    def _raise_reported(self, name: bytes, chunk: object, reader: CompletionReader) -> None:
        """Raise ModelError if the event is an error. An error after the finish reason is ignored."""
        error = error_of(chunk) or (chunk if name == b"error" else None)
        if error is None and name != b"error":
            return
        log.warning("an upstream reported an error", extra={"model": self._name, "finished": reader.finished})
        if not reader.finished:
            raise ModelError(kind_of_error(error), f"The model {self._name!r} reported an error.")

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
        await self._loading.aclose()
        await self._session.aclose()

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        extra = request.own.union(self._address.extra_fields)
        body = {
            **passed_on(request.parameters, extra),
            "messages": accepted(request.messages, self._dialect),
            "stream": True,
        }
        if model := request.model or self._address.model:
            body["model"] = model
        return {**body, "stream_options": {"include_usage": True}}

    async def _connect(self, request: ChatRequest, stack: AsyncExitStack) -> Opened:
        """Return a response that has begun.

        Send at most `MAX_ATTEMPTS` requests within the first-byte deadline, and one more for each field that the server
        refuses.
        """
        body = self._body(request)
        model = str(body.get("model", ""))
        refused = known = self._habits.of(model)
        attempt = 1
        try:
            async with asyncio.timeout(self._address.first_byte_seconds):
                while True:
                    try:
                        found = await self._session.post(adapted(body, refused), request.api_key, stack)
                        self._habits.confirm(model, refused - known)
                        return found
                    except RefusedError as error:
                        if error.fields - refused:
                            refused |= error.fields
                            continue
                        if not error.may_pass or attempt == MAX_ATTEMPTS:
                            raise
                    await asyncio.sleep(0.05 * 2**attempt * (0.5 + request.environment.chance()))
                    attempt += 1
        except TimeoutError as error:
            raise ModelError("timeout", f"The model {self._name!r} did not begin to answer in time.") from error

    async def _load(self, seconds: float) -> None:
        """Make the server load its model. Raise ModelError or TimeoutError."""
        request = ChatRequest([{"role": "user", "content": "hi"}], {"max_tokens": 1})
        async with AsyncExitStack() as stack, asyncio.timeout(seconds):
            body = {**self._body(request), "stream": False}
            await self._session.post(adapted(body, {"stream_options"}), "", stack)

    async def _let_end(self, response: aiohttp.ClientResponse) -> None:
        """Read what follows `[DONE]`, so that the connection can serve the next turn."""
        with suppress(aiohttp.ClientError, OSError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await response.content.readany():
                    pass
