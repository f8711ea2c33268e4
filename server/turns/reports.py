"""Hands the reports of turns to their sinks a little later, several together, so that no caller waits for them."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from server.turns.report import ReportSink, TurnReport

log = logging.getLogger("dialgraph.turns")

_GATHER_SECONDS: Final = 0.1
"""How long reports are gathered. A busy server counts several together, which costs less."""
_AT_ONCE: Final = 8
"""The most reports that are handed over before the event loop may do something else."""


class Reports:
    """The reports that no sink has taken yet."""

    def __init__(self, sinks: Sequence[ReportSink]) -> None:
        self._sinks = sinks
        self._waiting: deque[TurnReport] = deque()

    def add(self, report: TurnReport) -> None:
        """Take the report of a turn that is over."""
        self._waiting.append(report)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._hand_over_some)

    def hand_over(self) -> None:
        """Hand over everything that waits."""
        while self._waiting:
            self._hand_over_one()

    def _hand_over_some(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            self._hand_over_one()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._hand_over_some)

    def _hand_over_one(self) -> None:
        report = self._waiting.popleft()
        for sink in self._sinks:
            try:
                sink.turn_over(report)
            except Exception:
                # A report must never fail a call.
                log.exception("the report of a turn was lost", extra={"sink": type(sink).__name__})
