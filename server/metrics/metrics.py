"""Counts what happens, for Prometheus: reports of turns become numbers."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from dialgraph.turn.times import summed
from server.metrics import table
from server.metrics.table import METRICS, Metric
from server.turns.report import TurnReport

_OTHER = "(other)"
_MOST_NAMES = 200
"""The most values of a label that come from outside, such as names of tools. More are counted together."""


class Metrics:
    """All metrics of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._found: Mapping[str, Any] = {metric.name: self._created(metric) for metric in METRICS}
        self._tools: set[str] = set()
        self._counted: dict[str, int] = {}
        self._labelled: dict[tuple[str, tuple[str, ...]], Any] = {}

    def turn_over(self, report: TurnReport) -> None:
        """Count one turn."""
        entry, times, graph = report.entry, report.times, report.entry.endpoint
        self.of(table.TURNS, graph, report.asked.profile.name, entry.outcome).inc()
        reply = report.reply
        if reply.word:
            self.of(table.FIRST_WORD, graph).observe(report.seconds(reply.word))
        if reply.audio:
            self.of(table.FIRST_AUDIO, graph).observe(report.seconds(reply.audio))
        self.of(table.DURATION, graph).observe(report.seconds(times.ended))
        if reply.word or reply.audio:
            for part, ms in summed(report.parts).items():
                self.of(table.PART, graph, part).observe(ms / 1000)
        for step in times.steps:
            self.of(table.STEP, graph, step.step).observe((step.ended_ms - step.started_ms) / 1000)
        for model in times.models:
            if model.first:
                self.of(table.MODEL, model.model).observe(model.first - model.asked)
            if model.error and model.error != "CancelledError":
                self.of(table.MODEL_ERRORS, model.model, model.error).inc()
        for tool in times.tools:
            self.of(table.TOOL, self._tool(tool.tool), tool.outcome).observe(max(tool.ended - tool.began, 0.0))
        for cost in report.costs:
            self.of(table.TOKENS, cost.model, "prompt").inc(cost.prompt)
            self.of(table.TOKENS, cost.model, "completion").inc(cost.completion)
            if cost.own is not None:
                self.of(table.COST, graph, cost.model).inc(cost.own)
            else:
                self.of(table.UNKNOWN_COST, graph, cost.model).inc()
        if times.stopped:
            self.of(table.CANCEL).observe(max(times.ended - times.stopped, 0.0))
        if times.fillers:
            self.of(table.FILLERS, graph).inc(times.fillers)
        for rule, count in times.guarded.items():
            self.of(table.GUARD, graph, rule).inc(count)

    def refused(self, status: int, code: str) -> None:
        """Count a request that was refused before a turn began."""
        self.of(table.REFUSED, str(status), code).inc()

    def count_up_to(self, metric: Metric, count: int) -> None:
        """Set a counter of something that is counted elsewhere."""
        self.of(metric).inc(count - self._counted.get(metric.name, 0))
        self._counted[metric.name] = count

    def of(self, metric: Metric, *labels: str) -> Any:
        """Return the metric with these labels."""
        if not labels:
            return self._found[metric.name]
        found = self._labelled.get((metric.name, labels))
        if found is None:
            found = self._labelled[metric.name, labels] = self._found[metric.name].labels(*labels)
        return found

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def _created(self, metric: Metric) -> Any:
        if metric.kind == "histogram":
            return Histogram(metric.name, metric.about, metric.labels, buckets=metric.buckets, registry=self._registry)
        return _kinds()[metric.kind](metric.name, metric.about, metric.labels, registry=self._registry)

    def _tool(self, name: str) -> str:
        """Return the name of a tool as a label. Servers of tools may have any number of them."""
        if name in self._tools or len(self._tools) < _MOST_NAMES:
            self._tools.add(name)
            return name
        return _OTHER


@cache
def _kinds() -> Mapping[str, Any]:
    return {"counter": Counter, "gauge": Gauge}
