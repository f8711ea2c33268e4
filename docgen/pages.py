"""Settings and nodes as Markdown, from the declarations themselves."""

import inspect
from collections.abc import Callable

import orjson
from pydantic import SecretStr

from dialgraph.graph.catalogue import catalogue
from server.settings import PREFIX, Settings

_NOTE = "<!-- Written by `make docs`; a test compares it with the code. -->"


def settings_page() -> str:
    """Every setting with its variable, its default and its meaning."""
    lines = [
        "# Settings",
        "",
        _NOTE,
        "",
        "Each is read from the environment, then from `.env`, then from `dialgraph.yaml` (there in lower case and",
        "without the prefix); the first place that has it wins. In the environment tables are JSON, lists may be",
        "written `a, b`, and a field of a table can be named with two underscores: `DIALGRAPH_MODELS__MAIN__URL`.",
        "An unknown name stops the start, with the nearest known one.",
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


def nodes_page() -> str:
    """Every node with what it reads and writes, and its options."""
    lines = ["# Nodes", "", _NOTE, ""]
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
            default = orjson.dumps(schema.get("default")).decode()
            lines.append(f"| `{option}` | `{default}` | {_accepted(schema)} |")
        lines.append("")
    return "\n".join(lines)


def _accepted(schema: dict[str, object]) -> str:
    variants = schema.get("anyOf")
    if isinstance(variants, list):
        return " or ".join(_accepted(variant) for variant in variants)
    if isinstance(schema.get("enum"), list):
        return " or ".join(f"`{value}`" for value in schema["enum"])  # type: ignore[attr-defined]  # looked at above
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


PAGES: dict[str, Callable[[], str]] = {"settings.md": settings_page, "nodes.md": nodes_page}
"""File below `docs/` → what it must hold."""
