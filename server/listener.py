"""One client that hears a turn: it is told everything once, and the turn learns at once when it has left.

The status line leaves with the first event or the first keep-alive; from then on a failure is a frame.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from starlette.types import Receive, Scope, Send

from database.errors import DatabaseError
from language.words import in_language
from models.errors import ModelError
from nodes.contract import Turn
from nodes.events import Event, Say
from server.endpoints import Endpoint
from server.errors import ApiError, api_error, shutting_down, superseded
from server.extensions import ABORT, VANISHED
from server.meter import Meter
from server.record import NoRecord, Record, conversation_gone
from server.reply import EVENT_HEADERS, send_json, wait_for_disconnect
from server.settings import Settings
from server.turns import SharedTurn
from server.wire.port import Wire

log = logging.getLogger("dialgraph.turns")

_LOOK_SECONDS = 2.5
"""Between two looks for that."""
_STREAM_HEADERS = [(name.encode(), value.encode()) for name, value in EVENT_HEADERS.items()]


class Listener:
    """See the module."""

    def __init__(
        self,
        shared: SharedTurn,
        turn: Turn,
        endpoint: Endpoint,
        wire: Wire,
        settings: Settings,
        record: Record | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._shared = shared
        self._turn = turn
        self._endpoint = endpoint
        self._wire = wire
        self._question = turn.question
        """For the language of the fallback line: an ended turn has let its messages go."""
        self._settings = settings
        self._record = record or NoRecord()
        self._meter = meter
        self._reader = shared.enter()
        self._sending = asyncio.Lock()
        self._began = time.perf_counter()
        self._first_ms = 0.0
        self._started = False
        self._ended = False
        self._gone = False
        self._left = False

    async def serve(self, scope: Scope, receive: Receive, send: Send, *, joined: bool) -> None:
        """Tell the turn to its end, or to the client's."""
        outcome = "failed"
        watch = asyncio.create_task(self._watch(receive))
        extensions = scope.get("extensions", {})
        keep_alive = asyncio.create_task(self._keep_alive(send, extensions.get(ABORT), extensions.get(VANISHED)))
        try:
            await (self._stream(send) if self._turn.streaming else self._whole(send))
            outcome = "cancelled" if self._gone else "complete"
        except Exception as error:  # noqa: BLE001 (the boundary of a turn: whatever failed, the caller is told once)
            outcome = await self._fail(error, send)
        finally:
            self._leave()
            watch.cancel()
            keep_alive.cancel()
            await self._shared.gone()
            if not self._turn.streaming:
                self._record.unheard()
            await self._record.close(
                "failed" if outcome.startswith("error") and not self._shared.cause else "interrupted"
            )
            if self._meter is not None:
                self._meter.end(outcome, self._first_ms, self._elapsed_ms())
            log.info(
                "turn",
                extra={
                    "graph": self._endpoint.spec.name,
                    "caller": self._turn.call.principal,
                    "profile": self._turn.profile.name,
                    "joined": joined,
                    "first_word_ms": round(self._first_ms, 1),
                    "total_ms": self._elapsed_ms(),
                    "outcome": outcome,
                },
            )

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self._shared.leave(self._reader)

    async def _watch(self, receive: Receive) -> None:
        await wait_for_disconnect(receive)
        self._gone = True
        self._leave()

    async def _stream(self, send: Send) -> None:
        async for events in self._shared.listen(self._reader):
            if data := self._wire.stream(events):
                self._first_ms = self._first_ms or self._elapsed_ms()
                await self._send(send, data)
            self._heard(events)
        self._raise_cause()
        if not self._gone:
            await self._record.end("complete")
            await self._send(send, self._wire.stream_end(), last=True)

    async def _whole(self, send: Send) -> None:
        async for events in self._shared.listen(self._reader):
            self._wire.fold(events)
            self._heard(events)
            if not self._first_ms and any(event.audible for event in events):
                self._first_ms = self._elapsed_ms()
        self._raise_cause()
        if not self._gone:
            await self._record.end("complete")
            await self._reply(send_json(send, 200, self._wire.body()))

    def _heard(self, events: Iterable[Event]) -> None:
        self._record.heard(events)
        if self._meter is not None:
            self._meter.heard(events)

    def _raise_cause(self) -> None:
        if (self._shared.cause or self._shared.cut) and not self._gone:
            raise {"shutdown": shutting_down, "gone": conversation_gone}.get(self._shared.cause, superseded)()

    async def _send(self, send: Send, data: bytes, *, last: bool = False) -> None:
        self._sent = time.monotonic()
        self._ended = self._ended or last
        async with self._sending:  # words and keep-alives come from two tasks
            if not self._started:
                self._started = True
                headers = [(b"content-type", self._wire.media_type.encode()), *_STREAM_HEADERS]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": data, "more_body": not last})

    async def _reply(self, sending: Awaitable[None]) -> None:
        """A reply that is not streamed, watched like a stream's last words."""
        self._sent = time.monotonic()
        self._ended = True
        async with self._sending:
            await sending

    async def _keep_alive(
        self, send: Send, abort: Callable[[], None] | None, vanished: Callable[[], bool] | None
    ) -> None:
        """A comment whenever nothing was sent for a while; the end for a client that takes nothing any more.

        One sleeping task costs less than a timer a chunk.
        """
        pause, patience = self._settings.keepalive_ms / 1000, self._settings.send_timeout_seconds
        self._sent = time.monotonic()
        while True:
            silent = time.monotonic() - self._sent
            waits_in_vain = self._sending.locked() and silent >= patience
            if waits_in_vain or (vanished is not None and vanished()):
                self._gone = True
                self._leave()
                if abort is not None:
                    abort()
                return
            if self._sending.locked():
                await asyncio.sleep(max(min(pause, patience - silent, _LOOK_SECONDS), 0.01))
            elif silent < pause or self._ended or not self._turn.streaming:
                rest = max(pause - silent, 0.05) if self._turn.streaming else pause
                await asyncio.sleep(min(rest, patience, _LOOK_SECONDS))
            else:
                # Not awaited by itself: a client that does not read must not hold up this watch.
                self._comment = asyncio.create_task(self._send(send, self._wire.keep_alive))
                await asyncio.sleep(min(pause, patience, _LOOK_SECONDS))

    async def _fail(self, error: Exception, send: Send) -> str:
        """A status before the first byte, a frame after it, or the endpoint's own words; never a cut without a word."""
        # A user's own key that is wrong is no reason for his client to log in again.
        callers_key = bool(self._turn.api_key) and isinstance(self._record, NoRecord)
        told = api_error(error, callers_key=callers_key)
        if told.code == "internal_error":
            log.error("a turn failed", exc_info=error, extra={"graph": self._endpoint.spec.name})
        if self._gone:
            return "cancelled"
        if self._turn.profile.on_failure == "speak" and (self._started or told.code != "superseded"):
            try:
                await self._speak_fallback(send, quiet=told.code == "superseded")
                return f"error:{told.code}"
            except (ApiError, DatabaseError) as unkept:  # what cannot be kept is not told as a good end
                told = api_error(unkept)
        if not self._started:
            # The graph has had its retries: another try of the client's own would only make the caller wait.
            final = {"x-should-retry": "false"} if isinstance(error, ModelError) and told.status >= 500 else {}
            await self._reply(send_json(send, told.status, self._wire.refusal(told), {**told.headers, **final}))
        else:
            await self._send(send, self._wire.stream_error(told), last=True)
        return f"error:{told.code}"

    async def _speak_fallback(self, send: Send, *, quiet: bool) -> None:
        """A normal end, with the fallback line unless nobody waits for words any more."""
        self._wire.forget_actions()
        said_already = quiet or self._turn.line.apologised
        usual = self._turn.line.fallback_line or in_language(self._endpoint.spec.policy.fallback, self._question)
        line = "" if said_already else usual
        if self._turn.streaming:
            said = [Say(f" {line}" if self._started else line)] if line else []
            words = self._wire.stream(said)
            self._heard(said)
            await self._record.end("failed")
            await self._send(send, words + self._wire.stream_end(), last=True)
        else:
            said = [Say(f" {line}" if self._first_ms else line)] if line else []
            self._wire.fold(said)
            self._heard(said)
            await self._record.end("failed")
            await self._reply(send_json(send, 200, self._wire.body()))

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self._began) * 1000, 1)
