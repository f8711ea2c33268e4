"""The catalogue of nodes: it finds each node in `nodes/`, ours and the project's, by the name of its file."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

from dialgraph.graph.errors import GraphError
from dialgraph.graph.places import place_of, sentence_of
from dialgraph.plugins import PluginError, loaded, package_of, plugins
from dialgraph.turn.node import Node

PACKAGE = "nodes"
"""The package that holds the nodes. It is imported by name, because the engine does not import its extensions."""


@cache
def plugin_nodes() -> dict[str, Node]:
    """Return the nodes that other installed packages bring. Raises GraphError if one cannot be imported."""
    found = {}
    for name in plugins("nodes"):
        try:
            brought = loaded("nodes", name)
        except PluginError as error:
            raise GraphError(str(error), [""]) from error
        if not isinstance(brought, Node) or brought.name != name:
            raise GraphError(
                f"plugin {name!r} of {package_of(plugins('nodes')[name])}: it must be a node of that name.", [""]
            )
        found[name] = brought
    return found


@cache
def catalogue(package: str = PACKAGE) -> dict[str, Node]:
    """Return every node of the package, sorted by name. A new file adds a new node; it needs no registration.

    Raises GraphError for a file that cannot be imported, or has no node of its own name.
    """
    names = sorted(module.name for module in iter_modules(import_module(package).__path__))
    return {name: _node_of(package, name) for name in names if not name.startswith("_")}


def project_nodes(module: str) -> dict[str, Node]:
    """Return the nodes of a project: for a module `hotel.graphs.desk`, the files in the folder `hotel/nodes`.

    Raises GraphError, also for a node that has the name of one of ours.
    """
    project, _, file = module.rpartition(".graphs.")
    package = f"{project}.{PACKAGE}"
    if not project or not file or find_spec(package) is None:
        return {}
    found = catalogue(package)
    if taken := sorted(found.keys() & catalogue().keys()):
        file = f"{package.replace('.', '/')}/{taken[0]}.py"
        raise GraphError(
            f"{file}: the name {taken[0]!r} is taken by a node of Dialgraph. Give the file another name.", [""]
        )
    return found


def template_folder() -> Path:
    """Return the folder with the templates that every graph can use by their names."""
    return Path(import_module(PACKAGE).__path__[0]) / "templates"


def _node_of(package: str, name: str) -> Node:
    file = f"{package.replace('.', '/')}/{name}.py"
    if not name.isidentifier():
        other = name.replace("-", "_")
        raise GraphError(f"{file}: the name of this file cannot be the name of a node. Call it `{other}.py`.", [""])
    try:
        module = import_module(f"{package}.{name}")
    except Exception as error:  # an author's file can raise anything; the message names the file
        raise GraphError(f"{place_of(error, file)}: {sentence_of(error)}", [""]) from error
    found = getattr(module, name, None)
    if not isinstance(found, Node):
        raise GraphError(
            f"{file}: it must have a node named {name!r}: `@node` above `async def {name}`. The name of a file with"
            " other code begins with `_`.",
            [""],
        )
    return found
