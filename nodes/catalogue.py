"""The nodes by name: every file of this folder that holds a node of its own name."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

import nodes
from dialgraph.turn.node import Node


@cache
def catalogue() -> dict[str, Node]:
    """Every shipped node, sorted by name. A new file is a new node; nothing else has to be told of it."""
    found: dict[str, Node] = {}
    for module in iter_modules(nodes.__path__):
        candidate = getattr(import_module(f"nodes.{module.name}"), module.name, None)
        if isinstance(candidate, Node):
            found[module.name] = candidate
    return dict(sorted(found.items()))
