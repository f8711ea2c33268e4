"""`dialgraph new`: makes a small project that answers at once."""

import keyword
import re
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
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ProjectError(f"{str(folder)!r} exists and is not empty.")
    name = _name_of(folder)
    for file in sorted(_SOURCE.rglob("*.txt")):
        target = folder / str(file.relative_to(_SOURCE)).replace(_PLACEHOLDER, name).removesuffix(".txt")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.read_text(encoding="utf-8").replace(_PLACEHOLDER, name), encoding="utf-8")
    typer.echo(
        f"Made the project {name!r} in {folder}. Next:\n\n"
        f"  cd {folder}\n"
        "  dialgraph knowledge index knowledge\n"
        '  dialgraph chat --say "Can I return an article?" --show-prompt\n'
        "  dialgraph serve --reload\n"
    )


def _name_of(folder: Path) -> str:
    """Return the name of the package. Raises ProjectError for a name that Python or an installed package has."""
    name = re.sub(r"[\s.-]+", "_", folder.resolve().name.lower())
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ProjectError(
            f"{folder.name!r} cannot be the name of a project. Accepted: letters, digits, `_` and `-`, a letter first."
        )
    if name in _TAKEN or find_spec(name) is not None:
        raise ProjectError(f"{name!r} is the name of an installed Python package or of a folder of every project.")
    return name
