"""Reads YAML that an author wrote. What is wrong with it is said in one sentence, with its line."""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

_PLAIN = {
    "found unhashable key": "put text with `{{ … }}` in quotation marks",
    "mapping values are not allowed": "there is a second `: ` in this line; put the text in quotation marks",
    "expected <block end>": "the indentation is wrong, or a bracket or quotation mark is missing above",
    "could not find expected ':'": "a `:` is missing in this line or above",
    "cannot start any token": "use blanks instead of tabs, and put text with special characters in quotation marks",
    "could not determine a constructor": "put text that begins with `!` in quotation marks",
    "found another document": "a file has one graph; remove the line `---`",
    "while scanning a quoted scalar": "a quotation mark is missing",
    "found unexpected end of stream": "a quotation mark or bracket is missing",
}
"""What PyYAML says → what an author should know."""


class YamlError(ValueError):
    """The text is not usable YAML. The message has no full stop."""

    def __init__(self, message: str, line: int = 0) -> None:
        """`line`: from 1; 0 if it is not known."""
        super().__init__(message)
        self.line = line


def read_yaml(text: str) -> tuple[Any, "yaml.Node | None"]:
    """Return the data, and its nodes, which know their lines. Raise YamlError."""
    try:
        nodes = yaml.compose(text, yaml.SafeLoader)
        for twice in _twice(nodes):
            raise YamlError(f"the name {twice.value!r} appears twice in one table", twice.start_mark.line + 1)
        return yaml.safe_load(text), nodes
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        what = next((plain for theirs, plain in _PLAIN.items() if theirs in problem), problem)
        raise YamlError(what, mark.line + 1 if mark is not None else 0) from error


def _twice(node: "yaml.Node | None") -> Iterator[yaml.ScalarNode]:
    """Yield the names that stand twice in one table. YAML itself would take the last one silently."""
    if isinstance(node, yaml.MappingNode):
        known: set[str] = set()
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode):
                if name.value in known:
                    yield name
                known.add(name.value)
            yield from _twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _twice(one)


def line_in(node: "yaml.Node | None", loc: Sequence[int | str]) -> int:
    """Return the line of this place in a YAML text; if there is no such place, of the nearest one around it."""
    line = node.start_mark.line + 1 if node is not None else 0
    for key in loc:
        found = None
        if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            found = node.value[key]
            line = found.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                if name.value == str(key):
                    found, line = value, name.start_mark.line + 1
        if found is None:
            break
        node = found
    return line
