"""The project: the folder with the file `langgraph.json` in which a command runs.

Commands work in any folder of a project. Its data, its `.env` and its `dialgraph.yaml` are in the folder of that file.
"""

import os
import sys
from pathlib import Path

from dialgraph.shadowing import prefer_packages_to_folders

ROOT = Path(__file__).resolve().parents[1]
"""The folder that contains our packages: the checkout, or the folder of the installation."""
FILE = "langgraph.json"
VARIABLE = "DIALGRAPH_GRAPHS_FILE"


def project_folder() -> Path | None:
    """Return the folder of the project: the current one, or the nearest one above it, that has a langgraph.json.

    If there is none, the folders of the script that runs are looked at in the same way.

    Outside a project, return None. If DIALGRAPH_GRAPHS_FILE names the file, the current folder is the project's: the
    file may be somewhere else, for example in an image.
    """
    here = Path.cwd()
    if os.environ.get(VARIABLE):
        return here
    places = (here, *here.parents, *_folders_of_script())
    return next((folder for folder in places if (folder / FILE).is_file()), None)


def _folders_of_script() -> tuple[Path, ...]:
    """Return the folders of the script that runs, so that an author's script works from any folder."""
    file = Path(getattr(sys.modules.get("__main__"), "__file__", None) or "").resolve()
    installed = file.is_relative_to(ROOT) or file.is_relative_to(sys.prefix)
    return () if file.suffix != ".py" or installed else tuple(file.parents)


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


def shown_path(path: Path) -> str:
    """Return a path as messages show it: from the folder of the project, or of our packages, if it is in there."""
    for folder in (project_folder(), ROOT):
        if folder is not None and path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)


def make_importable(file: Path) -> None:
    """Let Python import the packages beside this langgraph.json. Ours and installed ones come first."""
    folder = str(file.resolve().parent)
    if folder not in map(os.path.realpath, sys.path):
        sys.path.append(folder)
    prefer_packages_to_folders()  # the project's own folder `knowledge` must not hide our package


NO_PROJECT = "Project: none, so these are the sample endpoints. `dialgraph new DIR` makes a project of your own."


def described(*, always: bool = False) -> str:
    """Return a line that says which project a command uses. For the samples of a checkout it is empty, or `always`."""
    folder = langgraph_file().resolve().parent
    if folder in (ROOT, ROOT / "graphs"):
        return NO_PROJECT if always or folder != ROOT else ""
    return f"Project: {folder}"
