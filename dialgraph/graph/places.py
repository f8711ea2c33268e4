"""Finds where an author declared something or made a mistake: the file and the line."""

import sys
from pathlib import Path
from traceback import extract_tb

from dialgraph.project import ROOT, project_folder, shown_path
from dialgraph.shadowing import PACKAGES
from dialgraph.turn.node import NodeError
from dialgraph.validation import nearest

STEP_NOTE = "step "
"""How the note begins that a failed step adds to an error. LangGraph adds notes too."""


def author() -> tuple[str, int]:
    """Return the file and the line of the code that calls the caller of this function."""
    frame = sys._getframe(2)
    return frame.f_code.co_filename, frame.f_lineno


def placed(file: str, line: int) -> str:
    """Return `file, line N`. A file in the current project is named from there."""
    if not file:
        return f"line {line}" if line else ""
    path = shown_path(Path(file))
    return f"{path}, line {line}" if line else path


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


def failure_of(error: BaseException) -> str:
    """Return what a turn failed with, for its author: errors of ours as they are, others with their step and place."""
    if is_ours(error):
        return str(error)
    step = next((note for note in getattr(error, "__notes__", ()) if note.startswith(STEP_NOTE)), "")
    return ": ".join(filter(None, (step, raised_at(error), sentence_of(error))))


def is_ours(error: BaseException) -> bool:
    """Return whether the error is of a type of ours. Its message is a sentence already."""
    return type(error).__module__.partition(".")[0] in PACKAGES


def raised_at(error: BaseException) -> str:
    """Return where code of the current project has raised this error, as `file, line N`; empty if none has."""
    folder = project_folder()
    frames = reversed(extract_tb(error.__traceback__))
    own = (one for one in frames if folder is not None and _is_of_project(Path(one.filename), folder))
    return next((placed(one.filename, one.lineno or 0) for one in own), "")


def _is_of_project(file: Path, folder: Path) -> bool:
    """Return whether the file is the author's: in the project, and neither installed nor ours."""
    return file.is_relative_to(folder) and not file.is_relative_to(ROOT) and not file.is_relative_to(sys.prefix)


def sentence_of(error: BaseException) -> str:
    """Return an error of an author's code as one line: its type and its message, without folders of this machine."""
    if isinstance(error, NodeError):
        return str(error)
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, ImportError) and error.path:
        if "partially initialized" in message:
            return f"this file and {shown_path(Path(error.path))} import each other. Remove one of the two imports."
        message = message.replace(error.path, shown_path(Path(error.path)))
    hint = ""
    if isinstance(error, AttributeError) and error.name and error.obj is not None:
        hint = nearest(error.name, [name for name in dir(error.obj) if not name.startswith("_")])
    return f"{type(error).__name__}: {' '.join(message.split())}{'. ' if hint else ''}{hint}".rstrip()
