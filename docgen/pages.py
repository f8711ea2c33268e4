"""Generates the pages of settings and nodes, as Markdown, from their declarations."""

import inspect
from collections.abc import Callable

import orjson
from pydantic import SecretStr

from dialgraph.graph.catalogue import catalogue
from docgen.pictures import PICTURES
from server.metrics.table import METRICS, VERSION
from server.settings import PREFIX, Settings

_NOTE = "<!-- Written by `make docs`; a test compares it with the code. -->"


def settings_page() -> str:
    """Return the page of all settings: variable, default and meaning."""
    lines = [
        "# Settings",
        "",
        _NOTE,
        "",
        "This page lists every setting. The server reads a setting from the environment, then from `.env`, then from",
        "`dialgraph.yaml` (there in lower case and without the prefix), and uses the first value it finds. In the",
        "environment, write tables as JSON and lists as `a, b`. Two underscores name a field of a table:",
        "`DIALGRAPH_MODELS__MAIN__URL`. An unknown name stops the start, and the error names the nearest known one.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or PREFIX + name.upper())
        default = field.get_default(call_default_factory=True)
        if isinstance(default, SecretStr):
            default = ""
        shown = f"`{default}`" if default not in ("", {}, ()) else ""
        lines.append(f"| `{variable}` | {shown} | {field.description} |")
    return "\n".join([*lines, ""])


def metrics_page() -> str:
    """Return the page of all metrics: labels, meaning and the alert that each is for."""
    lines = [
        "# Metrics",
        "",
        _NOTE,
        "",
        f"`GET /metrics` gives these metrics in Prometheus's text format. This is version {VERSION} of the table: a",
        "name or label that changes or goes away gets a new version and a line in the changelog. No label holds an id",
        "of a call or a user. The request needs the access token or an operator's key (`dialgraph key create NAME`):",
        "",
        "```yaml",
        "scrape_configs:",
        "  - job_name: dialgraph",
        "    authorization: {credentials_file: /etc/prometheus/dialgraph.key}",
        '    static_configs: [{targets: ["127.0.0.1:8000"]}]',
        "```",
        "",
        "| metric | kind | labels | meaning | alert |",
        "|---|---|---|---|---|",
    ]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.about} | {metric.alert} |")
    return "\n".join([*lines, ""])


def nodes_page() -> str:
    """Return the page of all nodes: what each reads and writes, its routes and its options."""
    lines = ["# Nodes\n\nThis page lists every node with its options.", "", _NOTE, ""]
    for name, node in catalogue().items():
        lines += [f"## {name}", "", inspect.getdoc(node.run) or "", ""]
        if node.reads or node.may_read:
            lines.append(f"Reads: {', '.join(f'`{key}`' for key in (*node.reads, *node.may_read))}.")
        if node.writes:
            lines.append(f"Writes: {', '.join(f'`{key}`' for key in node.writes)}.")
        if node.routes:
            lines.append(f"Routes: {', '.join(f'`{route}`' for route in node.routes)}.")
        if lines[-1]:
            lines.append("")
        lines += ["| option | default | accepted |", "|---|---|---|"]
        properties = node.options.model_json_schema().get("properties", {})
        for option, schema in properties.items():
            default = orjson.dumps(schema["default"]).decode() if "default" in schema else "required"
            lines.append(f"| `{option}` | `{default}` | {_accepted(schema)} |")
        lines.append("")
    return "\n".join(lines)


def _accepted(schema: dict[str, object]) -> str:
    variants = schema.get("anyOf")
    if isinstance(variants, list):
        return " or ".join(_accepted(variant) for variant in variants)
    if isinstance(schema.get("enum"), list):
        return " or ".join(f"`{value}`" for value in schema["enum"])  # type: ignore[attr-defined]  # checked above
    words = {
        "string": "text",
        "integer": "whole number",
        "boolean": "`true` or `false`",
        "array": "list",
        "object": "table",
    }
    kind = words.get(str(schema.get("type")), str(schema.get("type")))
    limits = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([kind, *limits])


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "nodes.md": nodes_page,
    "metrics.md": metrics_page,
    **PICTURES,
}
"""File in `docs/` → the function that returns its content."""
