"""Exports each turn as an OpenTelemetry trace, and its times as metrics. Spans are made when the turn is over.

The names are those of the GenAI conventions 0.1 (https://github.com/open-telemetry/semantic-conventions-genai). Phoenix
reads OpenInference's names, which are added. What was said is exported only if the settings ask for it, with stand-ins
for private values.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

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
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from dialgraph.environment import Environment
from dialgraph.privacy.finders import words_finder
from dialgraph.privacy.redaction import Redactor
from dialgraph.turn.times import ModelTime
from server.endpoints import Endpoint
from server.metrics.table import SECONDS
from server.settings import Settings
from server.turns.report import TurnReport

_VERSION: Final = "0.1.0"
_PROVIDERS: Final = {
    "api.openai.com": "openai", "openai.azure.com": "azure.ai.openai", "api.anthropic.com": "anthropic",
    "api.groq.com": "groq", "api.mistral.ai": "mistral_ai", "api.deepseek.com": "deepseek",
    "generativelanguage.googleapis.com": "gcp.gemini", "api.x.ai": "x_ai", "api.perplexity.ai": "perplexity",
}  # fmt: skip
"""Hosts of model servers → the well-known values of `gen_ai.provider.name`."""
_MOST_MODELS: Final = 100
_ENDS: Final = {"complete": "completed", "cancelled": "interrupted"}


class OtelSink:
    """Takes the reports of turns and exports them in threads of OpenTelemetry's."""

    def __init__(
        self, settings: Settings, endpoints: Mapping[str, Endpoint], environment: Environment, redactor: Redactor
    ) -> None:
        """`endpoints`: for the versions of graphs, and the stores of their steps."""
        self._endpoints = endpoints
        self._environment = environment
        self._redactor = redactor
        self._content = settings.otel_content
        self._known: set[str] = set()
        """The models that are labels of metrics. Clients name models, and could name any number."""
        self._older = settings.otel_older_names
        self._addresses = settings.model_addresses()
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
        self._older_calls = meter.create_histogram("gen_ai.client.operation.duration", "s") if self._older else None
        self._older_tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}") if self._older else None

    def turn_over(self, report: TurnReport) -> None:
        """Export one turn."""
        offset = self._environment.date() - self._environment.now()

        def at(mark: float) -> int:
            return int((mark + offset) * 1e9)

        entry, times = report.entry, report.times
        parent = extract({"traceparent": report.asked.traceparent}) if report.asked.traceparent else None
        graph = self._endpoints.get(entry.endpoint)
        redactor = self._redactor.and_words(words_finder(report.private_values))
        if graph is not None:
            redactor = redactor.and_words(graph.graph.outlets.private_words)
        call = redactor.text(report.asked.call.id)
        about: dict[str, Any] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": entry.endpoint,
            "gen_ai.agent.version": graph.graph.version if graph else "",
            "gen_ai.agent.invocation.end_reason": _ENDS.get(entry.outcome, "session_closed"),
            "gen_ai.usage.input_tokens": entry.prompt_tokens,
            "gen_ai.usage.output_tokens": entry.completion_tokens,
            "dialgraph.host": report.asked.profile.name,
            "openinference.span.kind": "AGENT",
        }
        if call:
            about |= {"gen_ai.conversation.id": call, "session.id": call}
        if entry.user_id:
            about["user.id"] = entry.user_id
        for name, ms in report.times_in_ms.items():
            about[f"dialgraph.{name}"] = ms
        if self._content:
            about |= {
                "input.value": redactor.text(report.said),
                "output.value": redactor.text(report.heard),
            }
        root = self._tracer.start_span(
            f"invoke_agent {entry.endpoint}", parent, SpanKind.INTERNAL, about, start_time=at(report.reply.came)
        )
        inside = set_span_in_context(root)
        stores = {step: name for step, kind, name in (graph.graph.uses if graph else ()) if kind == "store"}
        for step in times.steps:
            began, ended = (times.started + ms / 1000 for ms in (step.started_ms, step.ended_ms))
            about_step = {"dialgraph.step": step.step, "dialgraph.step.outcome": step.outcome}
            name, kind = f"step {step.step}", {"openinference.span.kind": "CHAIN"}
            if step.step in stores:
                name = f"retrieval {stores[step.step]}"
                kind = {
                    "gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": stores[step.step],
                    "openinference.span.kind": "RETRIEVER",
                }  # fmt: skip
            span = self._tracer.start_span(
                name, inside, SpanKind.INTERNAL, {**about_step, **kind}, start_time=at(began)
            )
            if step.outcome != "ok":
                _fail(span, step.outcome)
            within = set_span_in_context(span)
            for model in times.models:
                if model.step == step.step and began <= model.asked <= ended:
                    self._model(model, within, at)
            for tool in times.tools:
                if tool.step == step.step and began <= tool.began <= ended:
                    named = {
                        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool.tool,
                        "openinference.span.kind": "TOOL",
                    }  # fmt: skip
                    called = self._tracer.start_span(
                        f"execute_tool {tool.tool}", within, SpanKind.INTERNAL, named, start_time=at(tool.began)
                    )
                    if tool.outcome != "ok":
                        _fail(called, tool.outcome)
                    called.end(at(tool.ended))
                    self._tools.record(max(tool.ended - tool.began, 0.0), {"gen_ai.tool.name": tool.tool})
            span.end(at(ended))
        if entry.outcome.startswith("error:"):
            _fail(root, entry.outcome.removeprefix("error:"))
        root.end(at(max(times.ended, report.reply.came)))
        self._turns.record(report.seconds(times.ended), {"gen_ai.agent.name": entry.endpoint})

    def close(self) -> None:
        """Export what waits. Blocks for some seconds."""
        self._spans.shutdown()
        self._meters.shutdown()

    def _model(self, model: ModelTime, within: Context, at: Any) -> None:
        address = self._addresses.get(model.model)
        name = model.upstream_model or (address.model if address else "") or model.model
        asked = self._redactor.text(name)  # clients choose it
        host = (urlsplit(address.url).hostname or "") if address else ""
        provider = _PROVIDERS.get(host, host or "dialgraph")
        about: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": asked,
            "gen_ai.request.stream": True,
            "gen_ai.usage.input_tokens": model.prompt_tokens,
            "gen_ai.usage.output_tokens": model.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": model.cached_tokens,
            "server.address": host,
            "openinference.span.kind": "LLM",
            "llm.model_name": asked,
            "llm.token_count.prompt": model.prompt_tokens,
            "llm.token_count.completion": model.completion_tokens,
        }
        if model.first:
            about["gen_ai.response.time_to_first_chunk"] = model.first - model.asked
        if self._older:
            about |= {
                "gen_ai.system": provider, "gen_ai.usage.prompt_tokens": model.prompt_tokens,
                "gen_ai.usage.completion_tokens": model.completion_tokens,
            }  # fmt: skip
        span = self._tracer.start_span(f"chat {asked}", within, SpanKind.CLIENT, about, start_time=at(model.asked))
        ended = max(model.ended, model.asked)
        label = asked if asked in self._known or len(self._known) < _MOST_MODELS else "(other)"
        self._known.add(label)
        labels = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": provider, "gen_ai.request.model": label}
        failed = {"error.type": model.error} if model.error else {}
        if model.error:
            _fail(span, model.error)
        span.end(at(ended))
        self._calls.record(ended - model.asked, {**labels, **failed})
        if model.first:
            self._first.record(model.first - model.asked, labels)
        for kind, count in (("input", model.prompt_tokens), ("output", model.completion_tokens)):
            self._tokens.add(count, {**labels, "gen_ai.token.type": kind})
            if self._older_tokens is not None:
                self._older_tokens.record(count, {**labels, "gen_ai.token.type": kind})
        if self._older_calls is not None:
            self._older_calls.record(ended - model.asked, {**labels, **failed})


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


def headers_in(text: str) -> dict[str, str]:
    """Return the headers in a text such as `authorization=Basic abc,x-other=1`, separated by commas."""
    pairs = (pair.partition("=") for pair in text.split(",") if pair.strip())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
