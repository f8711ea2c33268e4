"""langgraph.json → the endpoints, each a graph with its spec. Mistakes are found when the server starts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dialgraph.graph.compile import CompiledGraph
from dialgraph.graph.errors import GraphError
from dialgraph.graph.places import place_of, sentence_of
from dialgraph.graph.spec import Graph, wrong_values
from dialgraph.project import langgraph_file, make_importable
from dialgraph.services.errors import UnknownServiceError
from dialgraph.services.services import OpenServices
from dialgraph.yaml_text import YamlError, line_in, read_yaml

SUFFIX = "/chat/completions"
RESPONSES = "/responses"
_FORM = "shop.graphs.shop:graph"


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
    endpoints, mistakes = try_endpoints(file, wanted)
    if mistakes:
        # One file of a node can be the mistake of every graph.
        raise GraphError("\n".join(dict.fromkeys(line for lines in mistakes.values() for line in lines)))
    return endpoints


def try_endpoints(file: Path, wanted: Sequence[str] = ()) -> tuple[dict[str, Endpoint], dict[str, list[str]]]:
    """Return the endpoints that load, and the mistakes of the others, by name. Raises GraphError for the file."""
    table, lines = _table(file)
    if unknown := [name for name in wanted if name not in table]:
        raise GraphError(f"Setting 'endpoints': unknown graph {unknown[0]!r}. Accepted: {', '.join(map(repr, table))}.")
    make_importable(file)
    endpoints: dict[str, Endpoint] = {}
    mistakes: dict[str, list[str]] = {}
    for name, entry in table.items():
        if not wanted or name in wanted:
            try:
                path = entry.get("path") if isinstance(entry, dict) else entry
                endpoints[name] = _load(name, path, f"{file.name}, line {line_in(lines, ['graphs', name])}")
            except GraphError as error:
                mistakes[name] = error.placed("")
    return endpoints, mistakes


def endpoint_named(name: str) -> Endpoint:
    """Return one endpoint of the project. Mistakes of others do not matter. Raises GraphError."""
    endpoints, mistakes = try_endpoints(langgraph_file())
    if name in mistakes:
        raise GraphError("\n".join(mistakes[name]))
    if name not in endpoints:
        raise GraphError(f"Unknown graph {name!r}. Accepted: {', '.join(map(repr, [*endpoints, *mistakes]))}.")
    return endpoints[name]


def open_names(endpoints: dict[str, Endpoint], services: OpenServices) -> None:
    """Open every model, store and voice that a graph names. Raises GraphError for an unknown name."""
    for endpoint in endpoints.values():
        for step, kind, name in endpoint.graph.uses:
            try:
                services.open(kind, name)
            except UnknownServiceError as error:
                declared = next((one.place for one in endpoint.spec.steps if one.id == step), "") or endpoint.spec.place
                where = "policy" if step == "policy" else f"step {step!r}"
                place = f"{declared}: " if declared else ""
                raise GraphError(f"{place}graph {endpoint.spec.name!r}, {where}: {error}") from error


def _table(file: Path) -> tuple[dict[str, Any], Any]:
    """Return the entry of each graph in langgraph.json, and the nodes of the file, which know their lines."""
    try:
        text = file.read_text(encoding="utf-8")
        found = json.loads(text)
        _, lines = read_yaml(text.replace("\t", " "))  # JSON is YAML, and YAML knows its lines
    except json.JSONDecodeError as error:
        raise GraphError(f"{file.name}, line {error.lineno}: it is not valid JSON: {error.msg}.") from error
    except YamlError as error:
        raise GraphError(f"{file.name}, line {error.line}: {error}.") from error
    except UnicodeDecodeError as error:
        raise GraphError(f"{file.name}: the file must be UTF-8 text.") from error
    except OSError as error:
        raise GraphError(f"{str(file)!r} cannot be read: {error.strerror}.") from error
    table = found.get("graphs") if isinstance(found, dict) else None
    if not isinstance(table, dict) or not table:
        raise GraphError(f'{file.name}: it names no graph. Accepted: {{"graphs": {{"shop": "{_FORM}"}}}}.')
    return table, lines


def _load(name: str, path: Any, place: str) -> Endpoint:
    """Import one endpoint. `place`: its line in langgraph.json."""
    module_name, found, attribute = path.partition(":") if isinstance(path, str) else ("", "", "")
    if not module_name or not found or not attribute or not module_name.replace(".", "a").isidentifier():
        own = f" Write `{_dotted(path)}`: a file path would import the module twice." if "/" in str(path) else ""
        if str(path).endswith((".yaml", ".yml", ".json")):
            own = " A YAML file needs a Python file beside it: `graph = compile_graph(Graph.from_file(…))`."
        raise GraphError(f"{place}: graph {name!r}: {path!r} must have the form `{_FORM}`.{own}")
    file = f"{module_name.replace('.', '/')}.py"
    try:
        module = import_module(module_name)
    except GraphError as error:
        raise GraphError("\n".join(error.placed(place_of(error, file)))) from error
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise GraphError(f"{place}: graph {name!r}: there is no file {file!r}.") from error
        raise GraphError(f"{place_of(error, file)}: {error}.") from error
    except ValidationError as error:
        raise GraphError(f"{place_of(error, file)}: {wrong_values(error)}") from error
    except Exception as error:  # an author's file can raise anything; the message names the file
        raise GraphError(f"{place_of(error, file)}: {sentence_of(error)}") from error
    graph, spec = getattr(module, attribute, None), getattr(module, "spec", None)
    if graph is None and (named := [key for key, one in vars(module).items() if isinstance(one, CompiledGraph)]):
        raise GraphError(f"{place}: graph {name!r}: {file} has no {attribute!r}. It has {', '.join(map(repr, named))}.")
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


def _dotted(path: str) -> str:
    """Return a file path such as `./shop/graphs/shop.py:graph` in the form that is accepted."""
    file, _, attribute = path.partition(":")
    return f"{file.removeprefix('./').removesuffix('.py').replace('/', '.')}:{attribute or 'graph'}"
