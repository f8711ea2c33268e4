"""The catalogue of nodes: it finds each node in nodes/ by the name of its file."""

from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from dialgraph.graph.errors import GraphError
from dialgraph.turn.node import Node

PACKAGE = "nodes"
"""The package that holds the nodes. It is imported by name, because the engine does not import its extensions."""


@cache
def catalogue() -> dict[str, Node]:
    """Return every node of the package, sorted by name. A new file adds a new node; it needs no registration.

    Raises GraphError for a file that cannot be imported, or has no node of its own name.
    """
    names = sorted(module.name for module in iter_modules(import_module(PACKAGE).__path__))
    return {name: _node_of(name) for name in names if not name.startswith("_")}


def template_folder() -> Path:
    """Return the folder with the templates that every graph can use by their names."""
    return Path(import_module(PACKAGE).__path__[0]) / "templates"


def _node_of(name: str) -> Node:
    file = f"{PACKAGE}/{name}.py"
    try:
        module = import_module(f"{PACKAGE}.{name}")
    except Exception as error:  # an author's file can raise anything; the message names the file
        raise GraphError(f"{file}: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not isinstance(found, Node):
        raise GraphError(f"{file}: it must have a node named {name!r}: `@node` above `async def {name}`.")
    return found
