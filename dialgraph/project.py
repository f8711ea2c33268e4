"""The project: the folder with the file `langgraph.json` in which a command runs.

Commands work in any folder of a project. Its data, its `.env` and its `dialgraph.yaml` are in the folder of that file.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The folder that contains our packages: the checkout, or the folder of the installation."""
FILE = "langgraph.json"
VARIABLE = "DIALGRAPH_GRAPHS_FILE"


def project_folder() -> Path | None:
    """Return the folder of the project: the current one, or the nearest one above it, that has a langgraph.json.

    Outside a project, return None. If DIALGRAPH_GRAPHS_FILE names the file, the current folder is the project's: the
    file may be somewhere else, for example in an image.
    """
    here = Path.cwd()
    if os.environ.get(VARIABLE):
        return here
    return next((folder for folder in (here, *here.parents) if (folder / FILE).is_file()), None)


def langgraph_file() -> Path:
    """Return the file that lists the endpoints: that of the project, or else the one with our sample endpoints."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if (folder := project_folder()) is not None:
        return folder / FILE
    checkout = ROOT / FILE
    return checkout if checkout.is_file() else ROOT / "graphs" / FILE


def in_project(path: Path) -> Path:
    """Return a path of the settings. A relative path is meant from the folder of the project."""
    folder = project_folder()
    return path if folder is None or folder == Path.cwd() else folder / path


def make_importable(file: Path) -> None:
    """Let Python import the packages beside this langgraph.json. Ours and installed ones come first."""
    folder = str(file.resolve().parent)
    if folder not in map(os.path.realpath, sys.path):
        sys.path.append(folder)


def described() -> str:
    """Return a line that says which project a command uses; empty for the samples in a checkout."""
    file = langgraph_file()
    if file.parent == ROOT:
        return ""
    if file.parent == ROOT / "graphs":
        return "Project: none, so these are the sample endpoints. `dialgraph new DIR` makes a project of your own."
    return f"Project: {file.parent.resolve()}"
