"""The JSON Schema of graphs, for editors. It lists every node with every option."""

from collections.abc import Mapping
from typing import Any

from dialgraph.graph.spec import Graph
from dialgraph.turn.node import Node


def graph_schema(nodes: Mapping[str, Node]) -> dict[str, Any]:
    """Return the JSON Schema of a graph (draft 2020-12). It checks the options of a step against its node."""
    schema = Graph.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    definitions = schema["$defs"]
    step = definitions["Step"]
    step["properties"]["node"]["enum"] = list(nodes)
    step["allOf"] = []
    for name, node in nodes.items():
        options = node.options.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(options.pop("$defs", {}))
        definitions[f"{name}_options"] = {**options, "title": name, "description": node.summary}
        step["allOf"].append(
            {
                "if": {"properties": {"node": {"const": name}}},
                "then": {"properties": {"options": {"$ref": f"#/$defs/{name}_options"}}},
            }
        )
    return schema
