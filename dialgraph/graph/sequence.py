"""The steps of a graph that never run side by side, one after the other: for serving, where each LangGraph node costs
a quarter of a millisecond.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dialgraph.graph.errors import GraphError
from dialgraph.graph.paths import LABEL_ERROR, LABEL_OK, LABEL_TIMEOUT, following
from dialgraph.graph.spec import END, Graph
from dialgraph.graph.step import WrappedStep
from dialgraph.turn.node import Turn

MOST_STEPS: Final = 200
"""A turn that takes more is a loop that nobody meant."""


def runs_in_sequence(spec: Graph) -> bool:
    """Return whether no two of its steps can run at the same time."""
    alone = all(isinstance(step.then, dict) or len(following(spec, at)) == 1 for at, step in enumerate(spec.steps))
    return alone and not any(step.waits for step in spec.steps)


class StepSequence:
    """The steps of one graph."""

    def __init__(self, spec: Graph, steps: Sequence[WrappedStep]) -> None:
        self._first = spec.steps[0].id
        self._steps = {step.step.id: step for step in steps}
        self._ways = {step.step.id: _ways(spec, at, step) for at, step in enumerate(steps)}

    async def run(self, state: Mapping[str, Any], turn: Turn) -> None:
        """Run them from the first to the end. Raises what a step raises, and GraphError for a loop."""
        at = self._first
        values: dict[str, Any] = dict(state)
        for _ in range(MOST_STEPS):
            step = self._steps[at]
            update = await step.run({"question": turn.question, **values}, turn)
            at = self._ways[at][update.pop(step.key, LABEL_OK)]
            if at == END:
                return
            values.update(update)
        raise GraphError(f"The turn took more than {MOST_STEPS} steps.")


def _ways(spec: Graph, at: int, step: WrappedStep) -> Mapping[str, str]:
    """Where the step leads, by the label that it leaves."""
    own = following(spec, at)
    ways = dict(own) if step.place.routes else {LABEL_OK: next(iter(own.values()))}
    if step.step.on_timeout:
        ways[LABEL_TIMEOUT] = step.step.on_timeout
    if step.step.on_error:
        ways[LABEL_ERROR] = step.step.on_error
    return ways
