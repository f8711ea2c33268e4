"""The errors of a graph and of its turns."""

from collections.abc import Sequence


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
