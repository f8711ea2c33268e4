"""`dialgraph new`: makes a small project that answers at once."""

import keyword
import os
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

_SOURCE = Path(__file__).resolve().parents[1] / "project"
_PLACEHOLDER = "PROJECT"
"""Stands for the name of the project in the names and texts of the files."""
_TAKEN = frozenset({"data", "knowledge", "tests"})
"""The other folders of a project."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class ProjectError(Exception):
    """A project cannot be made there."""


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to create. Its name becomes the name.")],
) -> None:
    """Make a project: one endpoint, one node, one tool, a document, and a README of one page."""
    folder = Path(os.path.normpath(folder))
    if folder.is_file():
        raise ProjectError(f"{str(folder)!r} is a file. Choose the name of a new folder.")
    if folder.exists() and any(folder.iterdir()):
        raise ProjectError(f"{str(folder)!r} exists and is not empty. Choose the name of a new folder.")
    name = _name_of(folder)
    try:
        for file in sorted(_SOURCE.rglob("*.txt")):
            target = folder / str(file.relative_to(_SOURCE)).replace(_PLACEHOLDER, name).removesuffix(".txt")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(file.read_text(encoding="utf-8").replace(_PLACEHOLDER, name), encoding="utf-8")
    except OSError as error:
        raise ProjectError(f"{str(folder)!r} cannot be written: {error.strerror}.") from None
    typer.echo(
        f"Created the project {name!r} in {folder}. Next:\n\n"
        f"  cd {shlex.quote(str(folder))}\n"
        "  dialgraph knowledge index knowledge\n"
        '  dialgraph chat --say "Can I return an article?" --show-prompt\n'
        "  dialgraph serve --reload\n"
    )


def _name_of(folder: Path) -> str:
    """Return the name of the package. Raises ProjectError for a name that Python or an installed package has."""
    name = re.sub(r"[\s.-]+", "_", folder.resolve().name.lower())
    shown = folder.resolve().name
    if keyword.iskeyword(name):
        raise ProjectError(f"{shown!r} is a Python keyword. Choose another name.")
    if not _NAME.fullmatch(name):
        raise ProjectError(
            f"{shown!r} cannot be the name of a project. Accepted: up to 40 letters, digits, `_` and `-`, beginning"
            " with a letter."
        )
    if name in _TAKEN or find_spec(name) is not None:
        raise ProjectError(
            f"{shown!r} is already the name of an installed Python package, or of a folder that every project"
            " has. Choose another name."
        )
    return name
