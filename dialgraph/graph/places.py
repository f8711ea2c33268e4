"""Finds where an author declared something or made a mistake: the file and the line."""

import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import extract_tb

import yaml

from dialgraph.project import project_folder


def author() -> tuple[str, int]:
    """Return the file and the line of the code that calls the caller of this function."""
    frame = sys._getframe(2)
    return frame.f_code.co_filename, frame.f_lineno


def placed(file: str, line: int) -> str:
    """Return `file, line N`. A file in the current project is named from there."""
    if not file:
        return f"line {line}" if line else ""
    path = Path(file)
    folder = project_folder()
    if folder is not None and path.is_relative_to(folder):
        path = path.relative_to(folder)
    return f"{path}, line {line}" if line else str(path)


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


def place_of(error: BaseException, file: str) -> str:
    """Return where an author's code has raised this error, as `file, line N`.

    `file`: a file of the author, from the project's folder, such as `shop/graphs/desk.py`. The error may have been
    raised in another file of the same package, which the first one imports.
    """
    package = file.partition("/")[0]
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{_from(package, error.filename) or file}, line {error.lineno}"
    found = [(name, one.lineno) for one in extract_tb(error.__traceback__) if (name := _from(package, one.filename))]
    return f"{found[-1][0]}, line {found[-1][1]}" if found else file


def _from(package: str, path: str) -> str:
    """Return the path of a file from the folder of this package, or an empty text if it is in no such folder."""
    parts = path.replace("\\", "/").split("/")
    if package not in parts[:-1]:
        return ""
    return "/".join(parts[len(parts) - 1 - parts[::-1].index(package) :])


def sentence_of(error: BaseException) -> str:
    """Return an error of an author's code as one line: its type and its message."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(message.split())}"
