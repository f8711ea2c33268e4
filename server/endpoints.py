"""langgraph.json → the endpoints, each a graph with its spec. Mistakes are found when the server starts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from dialgraph.graph.compile import CompiledGraph
from dialgraph.graph.errors import GraphError
from dialgraph.graph.spec import Graph
from dialgraph.project import make_importable
from dialgraph.services.errors import UnknownServiceError
from dialgraph.services.services import OpenServices

SUFFIX = "/chat/completions"
RESPONSES = "/responses"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A graph that is served under its name."""

    spec: Graph
    graph: CompiledGraph

    def paths(self) -> list[str]:
        """Return every path of this endpoint.

        Hosts put `/v1` before or after the name, and append the suffix to addresses that already have it.
        """
        name = self.spec.name
        bases = [self.spec.route_path, f"/{name}{SUFFIX}", f"/{name}/v1{SUFFIX}", f"/v1/{name}{SUFFIX}"]
        if not self.spec.route_path.startswith("/v1/") and self.spec.route_path != SUFFIX:
            bases.append(f"/v1{self.spec.route_path}")
        paths = [path for base in bases for path in (base, f"{base}/", base + SUFFIX)]
        return list(dict.fromkeys(paths))

    def responses_paths(self) -> list[str]:
        """Return every path of this endpoint for the Responses API."""
        name = self.spec.name
        return [f"/{name}{RESPONSES}", f"/{name}/v1{RESPONSES}", f"/v1/{name}{RESPONSES}"]


def load_endpoints(file: Path, wanted: Sequence[str] = ()) -> dict[str, Endpoint]:
    """Return the endpoints by name, in the file's order. Raises GraphError, with a line for each that does not load."""
    try:
        table = json.loads(file.read_text(encoding="utf-8"))["graphs"]
    except (OSError, ValueError, KeyError) as error:
        raise GraphError(f"{file.name!r} cannot be read: it must be a JSON file with the key `graphs`.") from error
    if unknown := [name for name in wanted if name not in table]:
        raise GraphError(f"Setting 'endpoints': unknown graph {unknown[0]!r}. Accepted: {', '.join(map(repr, table))}.")
    make_importable(file)
    endpoints: dict[str, Endpoint] = {}
    mistakes: list[str] = []
    for name, entry in table.items():
        if not wanted or name in wanted:
            try:
                endpoints[name] = _load(name, entry["path"] if isinstance(entry, dict) else entry)
            except GraphError as error:
                mistakes.append(str(error))
    if mistakes:
        raise GraphError("\n".join(dict.fromkeys(mistakes)))  # one file of a node can be the mistake of every graph
    return endpoints


def open_names(endpoints: dict[str, Endpoint], services: OpenServices) -> None:
    """Open every model, store and voice that a graph names. Raises GraphError for an unknown name."""
    for endpoint in endpoints.values():
        for step, kind, name in endpoint.graph.uses:
            try:
                services.open(kind, name)
            except UnknownServiceError as error:
                raise GraphError(f"graph {endpoint.spec.name!r}, step {step!r}: {error}") from error


def _load(name: str, path: str) -> Endpoint:
    module_name, _, attribute = path.partition(":")
    if "/" in path or not attribute:
        raise GraphError(
            f"graph {name!r}: {path!r} must have the form `graphs.file:graph`;"
            " a file path would import the module twice."
        )
    try:
        module = import_module(module_name)
    except GraphError:
        raise
    except Exception as error:  # an author's file can raise anything; the message names the file
        raise GraphError(f"graph {name!r}, file of {module_name!r}: {type(error).__name__}: {error}") from error
    graph, spec = getattr(module, attribute, None), getattr(module, "spec", None)
    if not isinstance(graph, CompiledGraph) or not isinstance(spec, Graph):
        raise GraphError(
            f"graph {name!r}: {module_name!r} must have `spec = Graph(…)` and `{attribute} = compile_graph(spec)`."
        )
    if spec.name != name:
        raise GraphError(f"graph {name!r}: its spec has the name {spec.name!r}. Both names must be the same.")
    return Endpoint(spec, graph)
