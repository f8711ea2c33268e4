"""The catalogue of nodes: it finds each node in nodes/ by the name of its file."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from dialgraph.turn.node import Node

PACKAGE = "nodes"
"""The package that holds the nodes. It is imported by name, because the engine does not import its extensions."""


@cache
def catalogue() -> dict[str, Node]:
    """Return every node of the package, sorted by name. A new file adds a new node; it needs no registration."""
    found: dict[str, Node] = {}
    for module in iter_modules(import_module(PACKAGE).__path__):
        candidate = getattr(import_module(f"{PACKAGE}.{module.name}"), module.name, None)
        if isinstance(candidate, Node):
            found[module.name] = candidate
    return dict(sorted(found.items()))
