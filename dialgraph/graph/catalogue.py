"""The nodes by name: every file in nodes/ that holds a node of its own name."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from dialgraph.turn.node import Node

PACKAGE = "nodes"
"""Found by its name: the engine does not import its extensions."""


@cache
def catalogue() -> dict[str, Node]:
    """Every shipped node, sorted by name. A new file is a new node; nothing else has to be told of it."""
    found: dict[str, Node] = {}
    for module in iter_modules(import_module(PACKAGE).__path__):
        candidate = getattr(import_module(f"{PACKAGE}.{module.name}"), module.name, None)
        if isinstance(candidate, Node):
            found[module.name] = candidate
    return dict(sorted(found.items()))
