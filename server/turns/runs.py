"""The turns that run. A repeated request joins the run of its turn, and a newer turn of a call ends the older one.

Hosts send the same request more than once: they speculate, retry, or close the connection and send it again. Each turn
runs only once, however often it is requested. When a call has continued, the turn before does not go on using tokens.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from dialgraph.environment import Environment
from dialgraph.graph.places import failure_of
from dialgraph.records.recorder import TurnRecorder
from dialgraph.records.records import Records
from dialgraph.run.run import Record, Run
from dialgraph.services.user_services import UserServices
from dialgraph.turn.node import Services, Turn
from dialgraph.turn.request import TurnRequest
from server.endpoints import Endpoint
from server.errors import api_error, conversation_gone, shutting_down, superseded
from server.turns.admission import Admission
from server.turns.ledger import Ledger
from server.turns.prices import Prices
from server.turns.prompt_log import PromptLog
from server.turns.report import TurnReport
from server.turns.reports import Reports
from server.turns.usage_meter import UsageMeter

log = logging.getLogger("dialgraph.turns")

KEPT_EVENTS: Final = 4096
"""The most events that are kept of a turn for clients that join. A longer turn can no longer be joined."""
KEPT_SECONDS: Final = 10.0
"""How long a turn can still be joined after it has ended. Hosts retry within seconds."""
MOST_KEPT: Final = 512
"""The largest number of ended turns that are kept."""

CallKey = tuple[str, str, str]


class Runs:
    """All runs of this process. A principal can never find the runs of another."""

    def __init__(
        self,
        services: Services,
        ledger: Ledger,
        prices: Prices,
        environment: Environment,
        records: Records,
        reports: Reports,
        *,
        logs_prompts: bool = False,
        keeps_words: bool = False,
    ) -> None:
        """`reports`: takes the report of each turn. `keeps_words`: whether reports need what the caller heard."""
        self._keeps_words = keeps_words
        self.open: dict[Run, str] = {}
        """The runs that have not ended, each with its principal."""
        self._services = services
        self._ledger = ledger
        self._prices = prices
        self._environment = environment
        self._logs_prompts = logs_prompts
        self._records = records
        self._reports = reports
        self._held: Counter[str] = Counter()
        """The number of places that each principal has taken."""
        self._by_key: dict[str, Run] = {}
        self._by_call: dict[CallKey, Run] = {}
        self._forgetting: dict[Run, asyncio.TimerHandle] = {}
        """The ended runs that are kept, each with the timer that removes it."""

    def start_or_join(
        self, endpoint: Endpoint, asked: TurnRequest, admission: Admission, record: Record | None = None
    ) -> Run:
        """Return the run for this request: a new one, or the run of the same turn, even if it has just ended.

        A request without a call id and a turn of a conversation always get a new run. Raises ModelError for a request
        that is nested too deeply to be compared with others.
        """
        if not asked.call.id:
            return self._start(endpoint, asked, admission, record, joins=False)
        policy = endpoint.spec.policy
        joins, key = policy.joins and asked.conversation is None, asked.key
        if joins and (same := self._by_key.get(key)) is not None and same.joinable:
            return same
        call = (asked.call.principal, asked.endpoint, asked.call.id)
        if policy.newest_wins and (older := self._by_call.get(call)) is not None:
            older.stop(superseded(), quiet=True)
        run = self._start(endpoint, asked, admission, record, joins=joins)
        self._by_call[call] = run
        run.when_done(lambda: self._forget_call(call, run))
        if joins:
            self._by_key[key] = run
            run.when_done(lambda: self._keep(key, run))
        return run

    def stop(self) -> None:
        """End every turn because the server stops. Listeners receive the reason."""
        for run in list(self.open):
            run.stop(shutting_down())

    async def aclose(self) -> None:
        """End every turn, also those without listeners, and wait until they have ended."""
        self.stop()
        for run in list(self.open):
            await run.wait()

    @contextmanager
    def place(self, principal: str, most: int) -> Iterator[bool]:
        """Take one of `most` places for the block; 0: no limit. Yields whether a place was free."""
        free = not most or self._held[principal] < most
        self._held[principal] += free
        try:
            yield free
        finally:
            self._held[principal] -= free
            if not self._held[principal]:
                del self._held[principal]

    def end_of(self, principal: str) -> None:
        """End the turns of a user who was disabled or deleted."""
        for run, whose in list(self.open.items()):
            if whose == principal:
                run.stop(conversation_gone())

    def principals(self) -> set[str]:
        """Return the principals whose turns run."""
        return set(self.open.values())

    def _start(
        self, endpoint: Endpoint, asked: TurnRequest, admission: Admission, record: Record | None, *, joins: bool
    ) -> Run:
        services = self._services
        if asked.upstream is not None or asked.store is not None:
            services = UserServices(services, asked.upstream, asked.store)
        memory = endpoint.spec.policy.memory
        recorder = self._records.recorder(asked, self._environment, memory.private if memory else ())
        turn = recorder.turn(services) if recorder else Turn(services, asked, environment=self._environment)
        if self._logs_prompts:
            words = endpoint.graph.outlets.private_words
            turn.watch(PromptLog(turn, self._records.redactor.and_words(words), memory.private if memory else ()))
        meter = UsageMeter(
            self._ledger, self._prices, asked, admission, self._environment, keeps_words=self._keeps_words
        )
        run = Run(
            endpoint.graph,
            turn,
            keep=KEPT_EVENTS if joins else 0,
            linger_seconds=asked.profile.linger_ms / 1000 if joins else 0.0,
            record=record,
            observers=(meter,),
            log=recorder.log if recorder else None,
        )
        run.when_over(lambda: self._report(run, meter, asked, endpoint, recorder, turn))
        self.open[run] = asked.call.principal
        run.when_done(lambda: self._over(run, endpoint))
        return run

    def _over(self, run: Run, endpoint: Endpoint) -> None:
        del self.open[run]
        if run.failure is not None and api_error(run.failure).code == "internal_error":
            fields = {"graph": endpoint.spec.name, "failure": failure_of(run.failure)}
            log.error("a turn failed", exc_info=run.failure, extra=fields)

    def _forget_call(self, call: CallKey, run: Run) -> None:
        if self._by_call.get(call) is run:
            del self._by_call[call]

    def _report(
        self,
        run: Run,
        meter: UsageMeter,
        asked: TurnRequest,
        endpoint: Endpoint,
        recorder: TurnRecorder | None,
        turn: Turn,
    ) -> None:
        if meter.entry is None:
            return
        memory = endpoint.spec.policy.memory
        private = turn.memory.values_of(memory.private) if memory else []
        report = TurnReport(meter.entry, asked, run.times, "".join(meter.words or ()), meter.costs, private)
        if recorder is not None:
            words = endpoint.graph.outlets.private_words
            self._records.over(recorder, report.record_end(), run.times.started, endpoint.graph.version, words)
        self._reports.add(report)

    def _keep(self, key: str, run: Run) -> None:
        """For a while, keep a turn that ended well. If there are too many, forget the oldest."""
        if not run.joinable:
            self._forget(key, run)
            return
        if len(self._by_key) > MOST_KEPT:
            oldest = next((old for old, one in self._by_key.items() if one.done and one is not run), key)
            self._forget(oldest, self._by_key[oldest])
        self._forgetting[run] = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, key, run)

    def _forget(self, key: str, run: Run) -> None:
        if self._by_key.get(key) is run:
            del self._by_key[key]
        if (timer := self._forgetting.pop(run, None)) is not None:
            timer.cancel()
