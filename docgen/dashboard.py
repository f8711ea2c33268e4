"""Generates the Grafana dashboard from a short list of panels."""

import json
from typing import Any

_SOURCE = {"type": "prometheus", "uid": "${source}"}
_OF_GRAPH = 'graph=~"$graph"'
Expression = tuple[str, str]
"""A PromQL expression, and the legend of its lines."""


def _rate(metric: str, by: str = "", only: str = "", *, every: str = "") -> Expression:
    """Return the rate of a counter, by these labels. `every`: divided by the rate of this one."""
    chosen = f"{{{only}}}" if only else ""
    rate = f"sum by ({by}) (rate({metric}{chosen}[$__rate_interval]))"
    if every:
        rate += f" / ignoring({by}) group_left sum(rate({every}{{{_OF_GRAPH}}}[$__rate_interval]))"
    return rate, " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))


def _quantile(quantile: float, metric: str, by: str = "", only: str = "") -> Expression:
    """Return a quantile of a histogram, by these labels."""
    chosen = f"{{{only}}}" if only else ""
    labels = f"{by}, le" if by else "le"
    found = f"histogram_quantile({quantile}, sum by ({labels}) (rate({metric}_bucket{chosen}[$__rate_interval])))"
    return found, f"{{{{{by}}}}}" if by else f"{quantile:.0%}"


_FAILED = f'{_OF_GRAPH},outcome=~"error:.*"'
_FIRST, _PART, _TURNS = "dialgraph_turn_first_word_seconds", "dialgraph_turn_part_seconds", "dialgraph_turns_total"
PANELS: list[tuple[str, str, list[Expression]]] = [
    ("Turns per second", "ops", [_rate(_TURNS, "graph", _OF_GRAPH)]),
    ("Turns in flight", "short", [("sum(dialgraph_turns_in_flight)", "in flight")]),
    ("Turns that fail", "percentunit", [_rate(_TURNS, "outcome", _FAILED, every=_TURNS)]),
    ("First word", "s", [_quantile(one, _FIRST, only=_OF_GRAPH) for one in (0.5, 0.95, 0.99)]),
    ("First sound", "s", [_quantile(one, "dialgraph_turn_first_audio_seconds", only=_OF_GRAPH) for one in (0.5, 0.95)]),
    (
        "Where the wait for the first word goes",
        "s",
        [_rate(f"{_PART}_sum", "part", _OF_GRAPH, every=f"{_FIRST}_count")],
    ),
    ("Models: first event, median", "s", [_quantile(0.5, "dialgraph_model_time_to_first_chunk_seconds", "model")]),
    ("Models: errors per second", "ops", [_rate("dialgraph_model_errors_total", "model, error")]),
    ("Models that are down", "short", [("max by (model) (dialgraph_breaker_open)", "{{model}}")]),
    ("Steps, 95 %", "s", [_quantile(0.95, "dialgraph_step_seconds", "step", _OF_GRAPH)]),
    ("Tools, 95 %", "s", [_quantile(0.95, "dialgraph_tool_seconds", "tool")]),
    ("Cancelling, 99 %", "s", [_quantile(0.99, "dialgraph_cancel_seconds")]),
    ("Tokens per second", "short", [_rate("dialgraph_tokens_total", "model, kind")]),
    ("Cost per second", "currencyUSD", [_rate("dialgraph_cost_usd_total", "graph, model", _OF_GRAPH)]),
    ("Fillers per second", "ops", [_rate("dialgraph_fillers_total", "graph", _OF_GRAPH)]),
    ("Guards per second", "ops", [_rate("dialgraph_guard_actions_total", "rule", _OF_GRAPH)]),
    ("Refused requests per second", "ops", [_rate("dialgraph_requests_refused_total", "status, code")]),
    ("Event loop: delay, 99 %", "s", [_quantile(0.99, "dialgraph_loop_delay_seconds", "instance")]),
    ("Files that wait", "short", [("max by (state) (dialgraph_ingest_jobs)", "{{state}}")]),
]
"""Title, unit and expressions of each panel."""


def dashboard() -> str:
    """Return the dashboard as JSON, for Grafana's import."""
    panels = [
        {
            "id": at + 1,
            "title": title,
            "type": "timeseries",
            "datasource": _SOURCE,
            "gridPos": {"h": 8, "w": 8, "x": at % 3 * 8, "y": at // 3 * 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(65 + n), "expr": expression, "legendFormat": legend, "datasource": _SOURCE}
                for n, (expression, legend) in enumerate(expressions)
            ],
        }
        for at, (title, unit, expressions) in enumerate(PANELS)
    ]
    variables: list[dict[str, Any]] = [
        {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "graph", "label": "Graph", "type": "query", "datasource": _SOURCE, "refresh": 2, "multi": True,
            "includeAll": True, "allValue": ".*", "query": "label_values(dialgraph_turns_total, graph)",
        },
    ]  # fmt: skip
    whole = {
        "title": "Dialgraph", "uid": "dialgraph", "schemaVersion": 39, "version": 1, "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"}, "templating": {"list": variables}, "panels": panels,
    }  # fmt: skip
    return json.dumps(whole, indent=1) + "\n"
