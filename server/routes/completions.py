"""`POST …/chat/completions`: pure ASGI, from the request's bytes to the last `[DONE]`.

Whatever can be refused is refused with a status before the first byte. The status line leaves with the first event or
the first keep-alive; from then on a failure is a frame. The client's leaving is watched from the moment the request
is read, and ends the turn.
"""

import asyncio
import logging
import time
from uuid import uuid4

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from graphs.run import RunningTurn, running
from models.errors import ModelError
from nodes.contract import Turn
from server.auth import Caller
from server.endpoints import Endpoint
from server.errors import ApiError, api_error, shutting_down
from server.reply import Disconnected, headers_of, read_body, send_error, send_json, wait_for_disconnect
from server.state import ServerState
from server.wire.chunks import ChunkEncoder
from server.wire.completion import CompletionFolder
from server.wire.request import CompletionRequest, read_request
from server.wire.sse import DONE, KEEP_ALIVE, frame

log = logging.getLogger("dialgraph.turns")

_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the words back
]


class Completions:
    """The ASGI application of one path: serves one graph, or picks one by the request's `model`."""

    def __init__(self, state: ServerState, endpoint: Endpoint, *, picks: bool = False) -> None:
        self._state = state
        self._endpoint = endpoint
        self._picks = picks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the module."""
        try:
            caller, request = await self._read(scope, receive)
            endpoint, model = self._pick(request)
            if self._state.draining:
                raise shutting_down()
        except Disconnected:
            return
        except ApiError as error:
            await send_error(send, error)
            return
        except asyncio.CancelledError:  # the grace period ended before the request was whole
            await send_error(send, shutting_down())
            return
        await Reply(self._state, endpoint, caller, request, model).serve(receive, send)

    async def _read(self, scope: Scope, receive: Receive) -> tuple[Caller, CompletionRequest]:
        headers = headers_of(scope)
        caller = self._state.authenticator.authenticate(scope, headers)
        content_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if content_type != "application/json" and not content_type.endswith("+json"):
            raise ApiError(415, "The Content-Type must be `application/json`.", code="unsupported_media_type")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, "The body must not be compressed.", code="unsupported_encoding")
        body = await read_body(receive, headers, self._state.settings.body_limit)
        query = dict(Request(scope).query_params)
        request = read_request(body, headers, query, caller.principal)
        if self._state.settings.require_stream and not request.stream:
            raise ApiError(
                400,
                "This server only streams: `stream` must be true.",
                param="stream",
                code="stream_required",
            )
        return caller, request

    def _pick(self, request: CompletionRequest) -> tuple[Endpoint, str]:
        """The graph, and the upstream's name of the model: `rag` or `rag/gpt-4o-mini` on the common path names both."""
        graph, _, model = request.model.partition("/")
        endpoints = self._state.endpoints
        if self._picks and graph in endpoints:
            return endpoints[graph], model
        if graph == self._endpoint.spec.name:
            return self._endpoint, model
        return self._endpoint, request.model


class Reply:
    """One turn and the reply that tells it."""

    def __init__(
        self, state: ServerState, endpoint: Endpoint, caller: Caller, request: CompletionRequest, model: str
    ) -> None:
        self._state = state
        self._endpoint = endpoint
        self._caller = caller
        self._request = request
        self._encoder = ChunkEncoder(
            id=f"chatcmpl-{uuid4().hex}",
            created=int(time.time()),
            model=request.model or endpoint.spec.name,
            include_usage=request.include_usage or not request.stream,
        )
        self._turn = Turn(
            services=state.services,
            messages=request.messages,
            request=request.parameters,
            call=request.call,
            model=model,
            api_key=caller.upstream_key,
            streaming=request.stream,
        )
        self._sending = asyncio.Lock()
        self._first_ms = 0.0
        self._started = False
        self._gone = False
        self._stopping = False

    async def serve(self, receive: Receive, send: Send) -> None:
        """Run the turn to its end, or to the client's."""
        outcome = "failed"
        began = time.perf_counter()
        try:
            async with running(self._endpoint.graph, self._turn) as run:
                self._run = run
                self._state.open_turns.add(self)
                watch = asyncio.create_task(self._watch(receive, run))
                try:
                    await (self._stream(run, send) if self._request.stream else self._whole(run, send))
                finally:
                    self._state.open_turns.discard(self)
                    watch.cancel()
            outcome = "cancelled" if self._gone else "complete"
        except Exception as error:  # noqa: BLE001 (the boundary of a turn: whatever failed, the caller is told once)
            outcome = await self._fail(error, send)
        finally:
            log.info(
                "turn",
                extra={
                    "graph": self._endpoint.spec.name,
                    "caller": self._caller.principal,
                    "first_word_ms": round(self._first_ms, 1),
                    "total_ms": round((time.perf_counter() - began) * 1000, 1),
                    "outcome": outcome,
                },
            )

    def stop(self) -> None:
        """The server stops: end the turn; the caller is told."""
        self._stopping = True
        self._run.stop()

    async def _watch(self, receive: Receive, run: RunningTurn) -> None:
        await wait_for_disconnect(receive)
        self._gone = True
        run.stop()

    async def _stream(self, run: RunningTurn, send: Send) -> None:
        keep_alive = asyncio.create_task(self._keep_alive(send))
        try:
            async for events in run.batches():
                frames = [frame(chunk) for event in events for chunk in self._encoder.encode(event)]
                if frames:
                    self._first_ms = self._first_ms or self._turn.line.elapsed_ms()
                    await self._send(send, b"".join(frames))
        finally:
            keep_alive.cancel()
        if self._gone:
            return
        if self._stopping:
            raise shutting_down()
        await self._send(send, b"".join(map(frame, self._encoder.end())) + DONE, last=True)

    async def _whole(self, run: RunningTurn, send: Send) -> None:
        folder = CompletionFolder()
        async for events in run.batches():
            for event in events:
                folder.add(self._encoder.encode(event))
            self._first_ms = self._first_ms or self._turn.line.elapsed_ms()
        if self._gone:
            return
        if self._stopping:
            raise shutting_down()
        folder.add(self._encoder.end())
        await send_json(send, 200, folder.body())

    async def _send(self, send: Send, data: bytes, *, last: bool = False) -> None:
        self._sent = time.monotonic()
        async with self._sending:  # words and keep-alives come from two tasks
            if not self._started:
                self._started = True
                await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
            await send({"type": "http.response.body", "body": data, "more_body": not last})

    async def _keep_alive(self, send: Send) -> None:
        """A comment whenever nothing was sent for a while. One sleeping task costs less than a timer a chunk."""
        pause = self._state.settings.keepalive_ms / 1000
        self._sent = time.monotonic()
        while True:
            rest = self._sent + pause - time.monotonic()
            if rest > 0:
                await asyncio.sleep(rest)
            else:
                await self._send(send, KEEP_ALIVE)

    async def _fail(self, error: Exception, send: Send) -> str:
        """A status before the first byte, a frame after it; never a cut without a word."""
        told = api_error(error, callers_key=bool(self._caller.upstream_key))
        if told.status == 500:
            log.error("a turn failed", exc_info=error, extra={"graph": self._endpoint.spec.name})
        if self._gone:
            return "cancelled"
        if not self._started:
            # The graph has had its retries: another try of the client's own would only make the caller wait.
            final = {"x-should-retry": "false"} if isinstance(error, ModelError) and told.status >= 500 else {}
            await send_error(send, told, final)
        else:
            await self._send(send, frame(told.envelope()) + DONE, last=True)
        return f"error:{told.code}"
