"""The errors of a graph and of its turns."""

from collections.abc import Sequence
from traceback import extract_tb


class GraphError(Exception):
    """A graph cannot be compiled, or a step broke a rule. Each line names the step, the problem and the fix."""

    def __init__(self, message: str, places: Sequence[str] = ()) -> None:
        """`places`: for each line of the message its place, as `file, line N`. It is empty if the line says it."""
        super().__init__(message)
        self.places = tuple(places)

    def placed(self, usual: str) -> list[str]:
        """Return the lines with their places. `usual`: the place of a line that has none of its own."""
        lines = str(self).splitlines() or [""]
        places = self.places if len(self.places) == len(lines) else [usual] * len(lines)
        return [f"{place}: {line}" if place else line for place, line in zip(places, lines, strict=True)]


class StepTimeoutError(Exception):
    """A step exceeded its time limit and has no `on_timeout`. The message names the step and may reach the client."""


class StoppedError(Exception):
    """A turn was stopped because nobody listened to it any more."""


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
