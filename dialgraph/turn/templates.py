"""Templates of prompts: where they are found, which variables they may use, and how they are rendered.

Only authors write templates, but their values come from callers and documents. So the environment is sandboxed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from traceback import extract_tb
from typing import Any

from jinja2 import ChainableUndefined, Template, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dialgraph.passages import Passage
from dialgraph.project import shown_path
from dialgraph.turn.call import CallInfo

_FILE = re.compile(r"(?:[A-Za-z]:)?[\w./\\-]+\.(?:j2|md|txt)")
"""A text of this form is meant as the name of a file. Only a name below one of the folders is found."""
_FILE_OF_TEXTS = "<template>"
"""Jinja's name in tracebacks for a template that was given as a text."""
_PATTERNS = ("*.j2", "*.md", "*.txt")
# Every name is checked before a graph runs. In a call, a value that is not known yet is left out.
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
_FENCE = str.maketrans({"<": "‹", ">": "›"})
_TAGS = ("if", "elif", "else", "endif", "for", "endfor", "set", "endset", "macro", "endmacro", "with", "endwith")
Folders = tuple[Path, ...]
"""The folders where the files of templates are looked for, in order."""


class TemplateError(ValueError):
    """A template cannot be used."""

    def __init__(self, what: str, place: str = "") -> None:
        """`place`: the file of the template, and the line; empty if the template is no file."""
        super().__init__(f"{place}: {what}" if place else what)
        self.what = what
        self.place = place


def _fenced(text: str) -> str:
    """Return the text with `<` and `>` replaced, so that a document cannot close the tag that encloses it."""
    return text.translate(_FENCE)


def _line(value: object) -> str:
    """Return the caller's value on one line, with `<` and `>` replaced."""
    return _fenced(" ".join(str(value).split()))


_ENVIRONMENT.filters["fenced"] = _fenced
_ENVIRONMENT.filters["line"] = _line


def render(template: str, folders: Folders, values: Mapping[str, Any]) -> str:
    """Return the rendered template without the space around it. Raise TemplateError if that fails, with its line."""
    compiled = _compiled(template, folders)
    try:
        return compiled.render(values).strip()
    except Exception as error:  # an author's template can do anything with its values
        lines = [one.lineno for one in extract_tb(error.__traceback__) if one.filename == _FILE_OF_TEXTS]
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise _source(template, folders).wrong(what, (lines or [0])[-1] or 0) from error


def mistakes(
    template: str, folders: Folders, slots: Sequence[str], keys: Iterable[str], later: Mapping[str, str]
) -> list[TemplateError]:
    """Return what is wrong with a template: that it cannot be read, or each variable that does not exist.

    `slots`: the slots that the policy declares. `keys`: the keys of the state that the nodes of the graph declare.
    `later`: the keys that are written only after the template is used, each with the step that writes it.
    """
    try:
        source = _source(template, folders)
        _compiled(template, folders)
        parsed = _ENVIRONMENT.parse(source.text)
    except TemplateError as error:
        return [error]
    if not source.text.strip():
        return [source.wrong("it is empty.")]
    known = _variables(slots)
    scope = {**known, **{key: _ANY for key in (*sorted(keys), *_ENVIRONMENT.globals) if key not in known}}
    scope |= {key: _Later(step) for key, step in later.items()}
    return [source.wrong(wrong, line) for line, wrong in _unknown(parsed, scope)]


@dataclass(frozen=True, slots=True)
class _Source:
    """The text of a template, and its file for messages; empty if it is no file."""

    text: str
    file: str = ""

    def wrong(self, what: str, line: int = 0) -> TemplateError:
        """Return the error for a mistake in this line."""
        if self.file:
            return TemplateError(what, f"{self.file}, line {line}" if line else self.file)
        return TemplateError(f"the template, line {line}: {what}" if line else what)


@cache
def _source(template: str, folders: Folders) -> _Source:
    """Return the text: of the file of that name, or `template` itself if it is not a name."""
    if template.isidentifier():
        name = f"{template}.j2"
    elif _FILE.fullmatch(template.strip()):
        name = template.strip()
    else:
        return _Source(template)
    there = [file for folder in folders if (file := folder / name).is_file()]
    own = [shown_path(file) for file in there if file.parent != folders[-1]]
    if len(set(own)) > 1:
        raise TemplateError(f"two files have this name: {own[0]} and {own[1]}. Give one of them another name.")
    if there:
        try:
            return _Source(there[0].read_text(encoding="utf-8-sig"), shown_path(there[0]))
        except UnicodeDecodeError as error:
            raise TemplateError("the file must be UTF-8 text.", shown_path(there[0])) from error
    files = [file for folder in folders for pattern in _PATTERNS for file in sorted(folder.glob(pattern))]
    found = list(dict.fromkeys(file.stem if file.suffix == ".j2" else file.name for file in files))
    bare = re.split(r"[/\\]", template)[-1].removesuffix(".j2")
    near = [bare] if bare in found else get_close_matches(bare, found, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    accepted = ", ".join(map(repr, found)) or "none"
    raise TemplateError(
        f"unknown template {template!r}.{hint} Accepted: {accepted}, the name of a file beside the graph,"
        " or the text of a template."
    )


@cache
def _compiled(template: str, folders: Folders) -> Template:
    source = _source(template, folders)
    try:
        return _ENVIRONMENT.from_string(source.text)
    except TemplateSyntaxError as error:
        raise source.wrong(_in_plain_words(str(error.message)), error.lineno) from error


def _in_plain_words(message: str) -> str:
    """Return what Jinja found wrong with the syntax, for readers who do not know its names of tokens."""
    if (found := re.match(r"No (filter|test) named '(.+?)'", message)) is not None:
        return _no_such(found[1], found[2])
    if (found := re.match(r"Encountered unknown tag '(.+?)'", message)) is not None:
        near = get_close_matches(found[1], _TAGS, 1, 0.5)
        return f"there is no tag {found[1]!r} here.{f' Did you mean {near[0]!r}?' if near else ''}"
    if (found := re.match(r"unexpected end of template, expected 'end of (print|statement)", message)) is not None:
        return f"`{'}}' if found[1] == 'print' else '%}'}` is missing."
    if message.startswith("unexpected '}'"):
        return "there is one `}` too many, or too few."
    if (found := re.match(r"expected token 'end of (print|statement).*?', got (.+)", message)) is not None:
        closing = "}}" if found[1] == "print" else "%}"
        return f"`{closing}` was expected, but there is {found[2]}."
    if (found := re.search(r"needs to be closed is '(\w+)'", message)) is not None:
        return f"`{{% end{found[1]} %}}` is missing."
    return message[:1].lower() + message[1:].rstrip(".") + "."


def _no_such(kind: str, name: str) -> str:
    near = get_close_matches(name, [*(_ENVIRONMENT.filters if kind == "filter" else _ENVIRONMENT.tests)], 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"there is no {kind} {name!r}.{hint} Jinja's documentation lists them."


class _Later(str):
    """The type of a value that a later step writes. It is the name of that step."""

    __slots__ = ()


class _List(tuple[Any]):
    """The type of a list: its one item is the type of the elements."""

    __slots__ = ()


_ANY: Any = None
"""The type of a value that is not checked further."""
_METHODS = ("items", "keys", "values", "get")
_UNSHOWN = frozenset((*_METHODS, *_ENVIRONMENT.globals))
"""Names that are accepted, but that no error suggests."""


def _variables(slots: Sequence[str]) -> dict[str, Any]:
    """Return the variables of a template: name → its fields, a list of such, or anything."""
    known = dict.fromkeys([*slots, *_METHODS], _ANY)
    return {
        "call": {one.name: _ANY for one in fields(CallInfo)},
        "memory": {"slots": known, "stage": _ANY, "missing": _ANY, "problems": _ANY},
        "messages": _ANY,
        "passages": _List(({one.name: _ANY for one in fields(Passage)},)),
        "question": _ANY,
    }


def _unknown(node: nodes.Node, scope: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield the line and the sentence for each variable and field that does not exist."""
    if isinstance(node, nodes.Include | nodes.Import | nodes.FromImport | nodes.Extends):
        yield node.lineno, "a template cannot use other templates."
        return
    if isinstance(node, nodes.Name) and node.ctx == "load" and node.name not in scope:
        yield node.lineno, f"unknown variable {node.name!r}.{_accepted(node.name, scope)}"
    if isinstance(node, nodes.Name) and isinstance(step := scope.get(node.name), _Later):
        yield (
            node.lineno,
            f"{node.name!r} is not known here: only the step {str(step)!r} writes it, and it comes later.",
        )
    if isinstance(node, nodes.Filter | nodes.Test):
        kind_of, known = (
            ("filter", _ENVIRONMENT.filters) if isinstance(node, nodes.Filter) else ("test", _ENVIRONMENT.tests)
        )
        if node.name not in known:
            yield node.lineno, _no_such(kind_of, node.name)
    if isinstance(node, nodes.Getattr | nodes.Getitem):
        kind, field = _kind(node.node, scope), _field(node)
        if field is not None and field.startswith("_"):
            yield node.lineno, f"the field {field!r} is not accepted: it belongs to Python."
        elif isinstance(kind, dict) and field is not None and field not in kind:
            yield node.lineno, f"{_shown(node.node)} has no field {field!r}.{_accepted(field, kind)}"
    inner = dict(scope)
    if isinstance(node, nodes.For):
        yield from _unknown(node.iter, scope)
        listed = _kind(node.iter, scope)
        inner |= dict.fromkeys(_targets(node.target), _ANY) | {"loop": _ANY}
        if isinstance(node.target, nodes.Name) and isinstance(listed, _List):
            inner[node.target.name] = listed[0]
        for child in (*node.body, *node.else_, *([node.test] if node.test else [])):
            yield from _unknown(child, inner)
        return
    if isinstance(node, nodes.Macro | nodes.CallBlock):
        inner |= dict.fromkeys([one.name for one in node.args] + ["varargs", "kwargs", "caller"], _ANY)
    if isinstance(node, nodes.With):
        inner |= dict.fromkeys([name for target in node.targets for name in _targets(target)], _ANY)
    # An assignment holds for what follows it. Here it holds for all that stands beside it.
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.Assign | nodes.AssignBlock):
            inner |= dict.fromkeys(_targets(child.target), _ANY)
        if isinstance(child, nodes.Macro):
            inner[child.name] = _ANY
    for child in node.iter_child_nodes():
        yield from _unknown(child, inner)


def _kind(node: nodes.Node, scope: Mapping[str, Any]) -> Any:
    if isinstance(node, nodes.Name):
        return scope.get(node.name)
    if isinstance(node, nodes.Getattr | nodes.Getitem):
        kind, field = _kind(node.node, scope), _field(node)
        if isinstance(kind, _List) and field is None:
            return kind[0]
        return kind.get(field) if isinstance(kind, dict) else _ANY
    return _ANY


def _field(node: nodes.Getattr | nodes.Getitem) -> str | None:
    if isinstance(node, nodes.Getattr):
        return node.attr
    value = node.arg.value if isinstance(node.arg, nodes.Const) else None
    return value if isinstance(value, str) else None


def _shown(node: nodes.Node) -> str:
    if isinstance(node, nodes.Name):
        return f"`{node.name}`"
    return f"`{_shown(node.node).strip('`')}.{node.attr}`" if isinstance(node, nodes.Getattr) else "it"


def _targets(node: nodes.Node) -> list[str]:
    return [name.name for name in ([node] if isinstance(node, nodes.Name) else node.find_all(nodes.Name))]


def _accepted(name: str, known: Mapping[str, Any]) -> str:
    shown = [one for one, kind in known.items() if one not in _UNSHOWN and not isinstance(kind, _Later)]
    near = get_close_matches(name, shown, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{hint} Accepted: {', '.join(map(repr, shown)) or 'none'}."
