"""langgraph.json → the endpoints, each a graph with its spec. Mistakes are found when the server starts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from pydantic import ValidationError

from dialgraph.graph.compile import CompiledGraph
from dialgraph.graph.errors import GraphError
from dialgraph.graph.places import place_of, sentence_of
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
    except json.JSONDecodeError as error:
        raise GraphError(f"{file.name}, line {error.lineno}: it is not valid JSON: {error.msg}.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
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
                mistakes += error.placed("")
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
    file = f"{module_name.replace('.', '/')}.py"
    try:
        module = import_module(module_name)
    except GraphError as error:
        raise GraphError("\n".join(error.placed(place_of(error, file)))) from error
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise GraphError(f"langgraph.json, graph {name!r}: there is no file {file!r}.") from error
        raise GraphError(f"{place_of(error, file)}: {error}.") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise GraphError(f"{place_of(error, file)}: {wrong}.") from error
    except Exception as error:  # an author's file can raise anything; the message names the file
        raise GraphError(f"{place_of(error, file)}: {sentence_of(error)}") from error
    graph, spec = getattr(module, attribute, None), getattr(module, "spec", None)
    if not isinstance(graph, CompiledGraph) or not isinstance(spec, Graph):
        raise GraphError(
            f"{file}: graph {name!r} needs `spec = Graph(…)` and `{attribute} = compile_graph(spec)` there."
        )
    if spec.name != name:
        raise GraphError(
            f"{spec.place or file}: the spec has the name {spec.name!r}, but langgraph.json says {name!r}."
            " Both names must be the same."
        )
    return Endpoint(spec, graph)
