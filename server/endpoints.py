"""langgraph.json → the endpoints that are served, each a graph with its spec; what is wrong is known at the start."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from dialgraph.graph.compile import CompiledGraph
from dialgraph.graph.errors import GraphError
from dialgraph.graph.spec import Graph
from dialgraph.services.errors import UnknownServiceError
from dialgraph.services.services import OpenServices

SUFFIX = "/chat/completions"
RESPONSES = "/responses"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A graph that can be called."""

    spec: Graph
    graph: CompiledGraph

    def paths(self) -> list[str]:
        """Every path that reaches it: hosts put `/v1` in front or behind, and append the suffix to what has it."""
        name = self.spec.name
        bases = [self.spec.route_path, f"/{name}{SUFFIX}", f"/{name}/v1{SUFFIX}", f"/v1/{name}{SUFFIX}"]
        if not self.spec.route_path.startswith("/v1/") and self.spec.route_path != SUFFIX:
            bases.append(f"/v1{self.spec.route_path}")
        paths = [path for base in bases for path in (base, f"{base}/", base + SUFFIX)]
        return list(dict.fromkeys(paths))

    def responses_paths(self) -> list[str]:
        """Every path that reaches it as the Responses API."""
        name = self.spec.name
        return [f"/{name}{RESPONSES}", f"/{name}/v1{RESPONSES}", f"/v1/{name}{RESPONSES}"]

    def uses(self) -> list[tuple[str, str, str]]:
        """What its steps name of the settings: (step, `model` | `store` | `voice` | `toolbox` …, name).

        What its policy names stands at its last step, which every path crosses.
        """
        return [
            (step, kind, name)
            for step, node in self.graph.builder.nodes.items()
            for kind, name in (node.metadata or {})["uses"]
        ]


def load_endpoints(file: Path, wanted: Sequence[str] = ()) -> dict[str, Endpoint]:
    """The endpoints by name, in the file's order. Raises GraphError with the name of the one that cannot be loaded."""
    try:
        table = json.loads(file.read_text(encoding="utf-8"))["graphs"]
    except (OSError, ValueError, KeyError) as error:
        raise GraphError(f"{file.name!r} cannot be read: it must hold `graphs`.") from error
    if unknown := [name for name in wanted if name not in table]:
        raise GraphError(f"Setting 'endpoints': no graph {unknown[0]!r}. Accepted: {', '.join(map(repr, table))}.")
    endpoints: dict[str, Endpoint] = {}
    mistakes: list[str] = []
    for name, entry in table.items():
        if not wanted or name in wanted:
            try:
                endpoints[name] = _load(name, entry["path"] if isinstance(entry, dict) else entry)
            except GraphError as error:
                mistakes.append(str(error))
    if mistakes:
        raise GraphError("\n".join(mistakes))
    return endpoints


def open_names(endpoints: dict[str, Endpoint], services: OpenServices) -> None:
    """Open every model, store and voice that a graph names, so that a wrong name stops the start."""
    for endpoint in endpoints.values():
        for step, kind, name in endpoint.uses():
            try:
                services.open(kind, name)
            except UnknownServiceError as error:
                raise GraphError(f"graph {endpoint.spec.name!r}, step {step!r}: {error}") from error


def _load(name: str, path: str) -> Endpoint:
    module_name, _, attribute = path.partition(":")
    if "/" in path or not attribute:
        raise GraphError(
            f"graph {name!r}: {path!r} must read `graphs.file:graph`; a path would import the module twice."
        )
    try:
        module = import_module(module_name)
    except GraphError:
        raise
    except Exception as error:  # an author's file: whatever is wrong with it is a sentence that names it
        raise GraphError(f"graph {name!r}, file of {module_name!r}: {type(error).__name__}: {error}") from error
    graph, spec = getattr(module, attribute, None), getattr(module, "spec", None)
    if not isinstance(graph, CompiledGraph) or not isinstance(spec, Graph):
        raise GraphError(
            f"graph {name!r}: {module_name!r} must have `spec = Graph(…)` and `{attribute} = compile_graph(spec)`."
        )
    if spec.name != name:
        raise GraphError(f"graph {name!r}: its spec is named {spec.name!r}. Both names must be the same.")
    return Endpoint(spec, graph)
