"""Exports each turn as an OpenTelemetry trace, and its times as metrics, when the turn is over.

What was said is exported only if the settings ask for it, with stand-ins for private values.
"""

from collections.abc import Mapping
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from dialgraph.environment import Environment
from dialgraph.privacy.finders import words_finder
from dialgraph.privacy.redaction import Redactor
from server.endpoints import Endpoint
from server.metrics.table import SECONDS
from server.settings import Settings
from server.traces.spans import PlannedSpan, Spans
from server.turns.report import TurnReport

_VERSION: Final = "0.1.0"
_MOST_MODELS: Final = 100


class OtelSink:
    """Takes the reports of turns and exports them in threads of OpenTelemetry's."""

    def __init__(
        self, settings: Settings, endpoints: Mapping[str, Endpoint], environment: Environment, redactor: Redactor
    ) -> None:
        """`endpoints`: for the versions of graphs, and the stores of their steps."""
        self._endpoints = endpoints
        self._environment = environment
        self._redactor = redactor
        self._plan = Spans(settings.model_addresses(), settings.otel_content, settings.otel_older_names)
        self._known: set[str] = set()
        """The models that are labels of metrics. Clients name models, and could name any number."""
        older = settings.otel_older_names
        base = settings.otel_url.rstrip("/")
        headers = headers_in(settings.otel_headers.get_secret_value())
        resource = Resource.create({"service.name": "dialgraph", "service.version": _VERSION})
        self._spans = TracerProvider(resource=resource)
        self._spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{base}/v1/traces", headers=headers)))
        self._tracer = self._spans.get_tracer("dialgraph", _VERSION)
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{base}/v1/metrics", headers=headers))
        view = View(instrument_name="gen_ai.*duration", aggregation=ExplicitBucketHistogramAggregation(SECONDS))
        first = View(instrument_name="gen_ai.*chunk", aggregation=ExplicitBucketHistogramAggregation(SECONDS))
        self._meters = MeterProvider([reader], resource, views=[view, first])
        meter = self._meters.get_meter("dialgraph", _VERSION)
        self._turns = meter.create_histogram("gen_ai.invoke_agent.duration", "s")
        self._calls = meter.create_histogram("gen_ai.client.inference.duration", "s")
        self._first = meter.create_histogram("gen_ai.client.inference.time_to_first_chunk", "s")
        self._tools = meter.create_histogram("gen_ai.execute_tool.duration", "s")
        self._tokens = meter.create_counter("gen_ai.client.inference.usage.tokens", "{token}")
        self._older_calls = meter.create_histogram("gen_ai.client.operation.duration", "s") if older else None
        self._older_tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}") if older else None

    def turn_over(self, report: TurnReport) -> None:
        """Export one turn."""
        graph = self._endpoints.get(report.entry.endpoint)
        redactor = self._redactor.and_words(words_finder(report.private_values))
        version, stores = "", dict[str, str]()
        if graph is not None:
            redactor = redactor.and_words(graph.graph.outlets.private_words)
            version = graph.graph.version
            stores = {step: name for step, kind, name in graph.graph.uses if kind == "store"}
        parent = extract({"traceparent": report.asked.traceparent}) if report.asked.traceparent else None
        offset = self._environment.date() - self._environment.now()
        self._emit(self._plan.of(report, version, stores, redactor), parent, offset)
        self._count(report, redactor)

    def close(self) -> None:
        """Export what waits. Blocks for some seconds."""
        self._spans.shutdown()
        self._meters.shutdown()

    def _emit(self, planned: PlannedSpan, parent: Context | None, offset: float) -> None:
        """Export a span and all that is inside. `offset`: from the environment's clock to the time of day."""
        kind = SpanKind.CLIENT if planned.client else SpanKind.INTERNAL
        began, ended = (int((mark + offset) * 1e9) for mark in (planned.began, planned.ended))
        span = self._tracer.start_span(planned.name, parent, kind, planned.attributes, start_time=began)
        if planned.error:
            span.set_attribute("error.type", planned.error)
            span.set_status(Status(StatusCode.ERROR))
        for inner in planned.inside:
            self._emit(inner, set_span_in_context(span), offset)
        span.end(ended)

    def _count(self, report: TurnReport, redactor: Redactor) -> None:
        """Count the turn, its calls of models and its tools."""
        self._turns.record(report.seconds(report.times.ended), {"gen_ai.agent.name": report.entry.endpoint})
        for tool in report.times.tools:
            self._tools.record(max(tool.ended - tool.began, 0.0), {"gen_ai.tool.name": tool.tool})
        for model in report.times.models:
            asked, provider, _ = self._plan.names_of(model, redactor)
            name = asked if asked in self._known or len(self._known) < _MOST_MODELS else "(other)"
            self._known.add(name)
            labels = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": provider, "gen_ai.request.model": name}
            failed = {"error.type": model.error} if model.error else {}
            seconds = max(model.ended - model.asked, 0.0)
            self._calls.record(seconds, {**labels, **failed})
            if model.first:
                self._first.record(model.first - model.asked, labels)
            for kind, count in (("input", model.prompt_tokens), ("output", model.completion_tokens)):
                self._tokens.add(count, {**labels, "gen_ai.token.type": kind})
                if self._older_tokens is not None:
                    self._older_tokens.record(count, {**labels, "gen_ai.token.type": kind})
            if self._older_calls is not None:
                self._older_calls.record(seconds, {**labels, **failed})


def headers_in(text: str) -> dict[str, str]:
    """Return the headers in a text such as `authorization=Basic abc,x-other=1`, separated by commas."""
    pairs = (pair.partition("=") for pair in text.split(",") if pair.strip())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
