"""Finds keys that a node returns but does not declare, by reading its code, so that no call has to find them."""

import ast
import inspect
import textwrap
from collections.abc import Iterator

from dialgraph.graph.places import placed
from dialgraph.turn.node import Node


def undeclared_keys(node: Node) -> Iterator[tuple[str, str]]:
    """Yield each key in a `return {…}` of the node that is not in its `writes`, with its place.

    A key that the code computes is not seen here; the step checks it when it runs.
    """
    try:
        lines, first = inspect.getsourcelines(node.run)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):  # made without a file, for example in an interactive session
        return
    file = inspect.getsourcefile(node.run) or ""
    for returned in _returns(tree.body[0]):
        keys = returned.value.keys if isinstance(returned.value, ast.Dict) else []
        for key in keys:
            if isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value not in node.writes:
                yield key.value, placed(file, first + key.lineno - 1)


def _returns(tree: ast.AST) -> Iterator[ast.Return]:
    """Yield the return statements of a function, without those of functions inside it."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Return):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from _returns(child)
