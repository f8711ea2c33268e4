"""Sends a run to one HTTP client, encoded by a protocol's wire, until the run ends or the client leaves."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from dialgraph.environment import Environment
from dialgraph.models.errors import ModelError
from dialgraph.records.turn_log import Kind, TurnLog
from dialgraph.run.channel import Subscription
from dialgraph.run.run import Run
from dialgraph.turn.events import Event, Failed, Fallback
from dialgraph.turn.request import TurnRequest
from server.errors import api_error
from server.http.refusals import IN_A_TURN
from server.http.reply import HttpReply
from server.protocols.port import Wire
from server.settings import Settings
from server.turns.reply_times import ReplyTimes
from server.turns.usage_meter import outcome_of

log = logging.getLogger("dialgraph.turns")

_LAST: Final = (Failed, Fallback)
_FINAL: Final[Mapping[str, str]] = {"x-should-retry": "false"}
"""The graph has already retried. A retry by the client would only make the caller wait longer."""


async def send_run(
    run: Run,
    asked: TurnRequest,
    wire: Wire,
    settings: Settings,
    environment: Environment,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """Send the run to this client. When the client leaves and nobody else listens, stop the run and wait for it."""
    scope.setdefault("extensions", {})[IN_A_TURN] = True
    joined = run.was_heard
    if run.log is not None:
        run.log.clients += 1
        run.log.add(Kind.CLIENT, run.log.clients, "joined" if joined else "came")
    times = ReplyTimes(asked, run.times, environment)
    subscription = run.subscribe()
    reply = HttpReply(
        scope,
        receive,
        send,
        media_type=wire.media_type,
        keep_alive=wire.keep_alive if asked.streaming else b"",
        keepalive_seconds=settings.keepalive_ms / 1000,
        patience_seconds=settings.send_timeout_seconds,
        leave=subscription.close,
        timing=times.header,
    )
    telling = _Sender(subscription, asked, wire, reply, times, run.log)
    try:
        async with reply:
            await telling.serve()
    finally:
        subscription.close()
        await run.left()
        telling.log(joined=joined)


class _Sender:
    def __init__(
        self,
        subscription: Subscription,
        asked: TurnRequest,
        wire: Wire,
        reply: HttpReply,
        times: ReplyTimes,
        log: TurnLog | None,
    ) -> None:
        self._times = times
        self._log = log
        self._folded: list[Event] = []
        """The events of a reply that is not streamed."""
        self._client = log.clients if log is not None else 0
        self._subscription = subscription
        self._asked = asked
        self._wire = wire
        self._reply = reply
        self._failure: Exception | None = None
        """The error that the run failed with."""

    async def serve(self) -> None:
        """Send the run. A failure is sent as a status before the first byte, or as a frame of the stream after it."""
        try:
            failed = await self._pass_on()
        except Exception as error:  # after any failure, the client receives one error
            log.exception("a turn could not be sent", extra={"graph": self._asked.endpoint})
            failed, self._failure = Failed(error), error
        if self._reply.gone:
            if self._log is not None:
                self._log.add(Kind.CLIENT, self._client, "left")
            return
        if failed is not None:
            await self._refuse(failed)
        elif self._asked.streaming:
            await self._reply.stream(self._wire.stream_end(self._timings()), last=True)
        else:
            self._times.note(self._folded)  # the client gets all of it now
            timing = {"server-timing": self._times.header().decode()}
            await self._reply.whole(200, self._wire.body(self._timings()), timing)

    async def _pass_on(self) -> Failed | None:
        """Pass on all events. Return the failure, if the client must receive one."""
        streaming = self._asked.streaming
        take = self._write if streaming else self._fold
        while events := await self._subscription.pass_to(take):
            if not streaming:
                self._wire.fold(events)
                self._folded += events
            elif data := self._wire.stream(events):  # includes words that came just before the turn failed
                await self._reply.stream(data)
                if self._log is not None:
                    self._log.written(self._client)
                if self._times.listens:
                    self._times.note(events)
            last = events[-1]
            if isinstance(last, _LAST):
                self._failure = last.error
            if isinstance(last, Failed):
                return last
        return None

    def _write(self, events: list[Event]) -> bool:
        """Send the events immediately. Return False if that is not possible: the reply has not begun, the client reads
        too slowly, or the run has failed.
        """
        body = self._reply.body
        if body is None or not body.flows or isinstance(events[-1], _LAST):
            return False
        if data := self._wire.stream(events):
            body.write(data)
            if self._log is not None:
                self._log.written(self._client)
            if self._times.listens:
                self._times.note(events)
        return True

    def _fold(self, events: list[Event]) -> bool:
        if isinstance(events[-1], _LAST):
            return False
        self._wire.fold(events)
        self._folded += events
        return True

    def _timings(self) -> Mapping[str, Any] | None:
        return self._times.data() if self._asked.wants_timings else None

    async def _refuse(self, failed: Failed) -> None:
        # In a conversation the wrong key is one that the user stored: a 401 would make the client log in again.
        told = api_error(failed.error, callers_key=bool(self._asked.api_key) and self._asked.conversation is None)
        if not self._reply.begun:
            final = _FINAL if isinstance(failed.error, ModelError) and told.status >= 500 else {}
            await self._reply.whole(told.status, self._wire.refusal(told), {**told.headers, **final})
        elif failed.quiet:
            ended = self._wire.stream([Fallback("", failed.error)]) + self._wire.stream_end()
            await self._reply.stream(ended, last=True)
        else:
            await self._reply.stream(self._wire.stream_error(told), last=True)

    def log(self, *, joined: bool) -> None:
        """Write the log line of this reply."""
        if not log.isEnabledFor(logging.INFO):
            return
        outcome = "cancelled" if self._reply.gone else outcome_of(self._failure)
        log.info(
            "turn",
            extra={
                "graph": self._asked.endpoint,
                "call": self._asked.call.id,
                "principal": self._asked.call.principal,
                "profile": self._asked.profile.name,
                "joined": joined,
                **self._times.data(),
                "outcome": outcome,
                **self._times.spent(),
            },
        )
