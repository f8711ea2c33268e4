"""Finds mistakes in the code of a node by reading it, so that no call has to find them."""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dialgraph.graph.places import placed
from dialgraph.turn.node import GIVEN, Node
from dialgraph.validation import nearest

_AWAITED = ("say", "emit", "tools", "report")
"""Methods of the turn that do nothing until they are awaited."""
_ROUTE = "route"


@dataclass(frozen=True, slots=True)
class CodeMistake:
    """One mistake in the code of a node."""

    what: str
    place: str
    """The file and the line."""


def code_mistakes(node: Node) -> Iterator[CodeMistake]:
    """Yield the mistakes that can be seen in the code. What it computes is checked when the step runs."""
    try:
        lines, first = inspect.getsourcelines(node.run)
        tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, TypeError, SyntaxError):  # made without a file, for example in an interactive session
        return
    if not isinstance(tree, ast.AsyncFunctionDef | ast.FunctionDef):
        return
    file = inspect.getsourcefile(node.run) or ""
    for line, what in sorted(_found(node, tree)):
        yield CodeMistake(what, placed(file, first + line - 1))


def _found(node: Node, tree: ast.AsyncFunctionDef | ast.FunctionDef) -> Iterator[tuple[int, str]]:
    names = [one.arg for one in (*tree.args.posonlyargs, *tree.args.args)]
    state, turn = (*names, "state", "turn")[:2]
    for one in _inside(tree):
        if isinstance(one, ast.Return) and one.value is not None:
            yield from ((one.lineno, what) for what in _returned(node, one.value, state))
        elif isinstance(one, ast.Expr) and _is_call_of(one.value, turn):
            method = one.value.func.attr  # type: ignore[attr-defined]  # checked in the line above
            yield one.lineno, f"nothing happens without `await`: write `await {turn}.{method}(…)`."
        elif isinstance(one, ast.Subscript) and _is_name(one.value, state):
            yield from ((one.lineno, what) for what in _used(node, one, state))
        elif isinstance(one, ast.Call) and _is_get(one, state):
            yield from ((one.lineno, what) for what in _read(node, one.args[0]))


def _returned(node: Node, value: ast.expr, state: str) -> Iterator[str]:
    if _is_name(value, state):
        yield "it returns the whole state. Return only what it adds: `return {…}`."
    elif isinstance(value, ast.Tuple | ast.List | ast.Set | ast.JoinedStr) or (
        isinstance(value, ast.Constant) and value.value is not None
    ):
        kind = "text" if isinstance(value, ast.JoinedStr) or _text(value) is not None else ast.unparse(value)[:40]
        usual = node.writes[0] if node.writes else "key"
        yield f'it returns {kind}. Accepted: a table such as `{{"{usual}": …}}`, or None.'
    elif isinstance(value, ast.Dict):
        for written, item in zip(value.keys, value.values, strict=True):
            name = _text(written)
            if name is not None and name not in node.writes:
                near = nearest(name, node.writes)
                declared = ", ".join(map(repr, [*node.writes, name]))
                cure = f"{near}" if near else f"Write `@node(writes=({declared},))`. "
                yield f"it returns {name!r}, which is not in its `writes`. {cure}".rstrip()
            if name == _ROUTE and node.routes and (chosen := _text(item)) is not None and chosen not in node.routes:
                near = nearest(chosen, node.routes)
                yield f"it chooses {chosen!r}, which is not in its `routes`. {near}Accepted: {_list(node.routes)}."


def _used(node: Node, one: ast.Subscript, state: str) -> Iterator[str]:
    if isinstance(one.ctx, ast.Load):
        yield from _read(node, one.slice)
    elif (name := _text(one.slice)) is not None:
        yield f'a change of `{state}` is lost. Return it instead: `return {{"{name}": …}}`.'


def _read(node: Node, key: ast.expr) -> Iterator[str]:
    name = _text(key)
    known = {*GIVEN, *node.reads, *node.may_read, *node.writes}
    if name is not None and name not in known:
        yield f"it reads {name!r} without declaring it. Add it to `reads`, or to `may_read` if it can do without."


def _is_call_of(value: ast.expr, turn: str) -> bool:
    """Return whether this is a call of a method of the turn that must be awaited."""
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr in _AWAITED
        and _is_name(value.func.value, turn)
    )


def _is_get(one: ast.Call, state: str) -> bool:
    function = one.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "get"
        and _is_name(function.value, state)
        and bool(one.args)
    )


def _is_name(value: ast.expr, name: str) -> bool:
    return isinstance(value, ast.Name) and value.id == name


def _text(value: ast.expr | None) -> str | None:
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _inside(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield everything in a function, without what is in functions and classes inside it."""
    for child in ast.iter_child_nodes(tree):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from _inside(child)
