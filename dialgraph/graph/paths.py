"""Answers questions about the paths through a graph: which steps can follow, precede or run next to a step. Pure."""

from collections.abc import Callable, Iterable

from dialgraph.graph.spec import END, Graph, Step

# In brackets, because no step name can contain brackets.
LABEL_OK, LABEL_TIMEOUT, LABEL_ERROR = "(done)", "(timeout)", "(error)"


def following(graph: Graph, at: int) -> dict[str, str]:
    """Return where the `then` of a step leads, as route → step. Without a table each target is its own route."""
    step = graph.steps[at]
    if step.then is None:
        below = graph.steps[at + 1].id if at + 1 < len(graph.steps) else END
        return {below: below}
    if isinstance(step.then, dict):
        return dict(step.then)
    targets = (step.then,) if isinstance(step.then, str) else step.then
    return {target: target for target in targets}


class Paths:
    """The paths of one graph. Its names and targets must be valid."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.start = graph.steps[0].id
        self.steps: dict[str, Step] = {step.id: step for step in graph.steps}
        self._reached: dict[tuple[str, frozenset[str], bool], set[str]] = {}
        self._own = {step.id: following(graph, at) for at, step in enumerate(graph.steps)}

    def next(self, name: str) -> set[str]:
        """Return every step that can come next, also after an error or a timeout."""
        if name == END:
            return set()
        step = self.steps[name]
        return {*self._own[name].values(), *(target for target in (step.on_timeout, step.on_error) if target)}

    def reached(self, start: str, *, without: Iterable[str] = (), waiting: bool = True) -> set[str]:
        """Return all steps that can be reached from `start`, with `start` itself.

        Paths end before the steps in `without`. If `waiting` is False, they also end before steps that wait.
        """
        key = (start, frozenset(without), waiting)
        if key in self._reached:
            return self._reached[key]
        barred = key[1]

        def go(name: str) -> set[str]:
            return {
                target
                for target in self.next(name) - barred
                if target == END or waiting or not self.steps[target].waits
            }

        self._reached[key] = closure(start, go) if start not in barred else set()
        return self._reached[key]

    def before(self, name: str) -> set[str]:
        """Return the steps that can have run when this step runs for the first time."""
        early = self.reached(self.start, without=[name]) if name != self.start else set()
        return {other for other in early - {END} if name in self.reached(other)}

    def failing(self, name: str) -> set[str]:
        """Return the chain of `on_error` steps that begins with this step, with this step itself."""

        def go(one: str) -> list[str]:
            target = None if one == END else self.steps[one].on_error
            return [target] if target else []

        return closure(name, go)

    def forks(self) -> list[tuple[str, str, str]]:
        """Return the pairs of branches that run at the same time: (step that forks, one target, another target)."""
        return [
            (name, left, right)
            for name, own in self._own.items()
            if not isinstance(self.steps[name].then, dict)
            for at, left in enumerate(own)
            for right in list(own)[at + 1 :]
            if END not in (left, right)
        ]

    def parallel(self) -> list[tuple[str, str]]:
        """Return the pairs of steps that can run at the same time, each pair once."""
        found: set[tuple[str, str]] = set()
        for _, left, right in self.forks():
            lefts, rights = self.reached(left) - {END}, self.reached(right) - {END}
            for one in lefts:
                for other in rights - {one}:
                    exclusive = one not in rights or other not in lefts
                    if exclusive and other not in self.reached(one) and one not in self.reached(other):
                        found.add((min(one, other), max(one, other)))
        return sorted(found)


def closure(start: str, next_of: Callable[[str], Iterable[str]]) -> set[str]:
    """Return everything that can be reached from `start`, with `start` itself."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += sorted(next_of(name))
    return seen
