"""Runs the steps of a graph one after the other, if no two can run at the same time.

The server uses this, because each LangGraph node costs a quarter of a millisecond.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dialgraph.graph.errors import GraphError
from dialgraph.graph.paths import LABEL_ERROR, LABEL_OK, LABEL_TIMEOUT, following
from dialgraph.graph.spec import END, Graph
from dialgraph.graph.step import WrappedStep
from dialgraph.turn.node import Turn

MOST_STEPS: Final = 200
"""The most steps in one turn. A turn that takes more is in an endless loop."""


def runs_in_sequence(spec: Graph) -> bool:
    """Return whether no two steps of the graph can run at the same time."""
    alone = all(isinstance(step.then, dict) or len(following(spec, at)) == 1 for at, step in enumerate(spec.steps))
    return alone and not any(step.waits for step in spec.steps)


class StepSequence:
    """Runs the steps of one graph in sequence."""

    def __init__(self, spec: Graph, steps: Sequence[WrappedStep]) -> None:
        self._first = spec.steps[0].id
        self._steps = {step.step.id: step for step in steps}
        self._ways = {step.step.id: ways_of(spec, at, step) for at, step in enumerate(steps)}

    async def run(self, state: Mapping[str, Any], turn: Turn) -> None:
        """Run the steps from the first to the end. Raise what a step raises, and GraphError after too many steps."""
        at = self._first
        values: dict[str, Any] = dict(state)
        for _ in range(MOST_STEPS):
            step = self._steps[at]
            update = await step.run({"question": turn.question, **values}, turn)
            at = self._ways[at][update.pop("route") or LABEL_OK]
            if at == END:
                return
            for key, value in update.items():
                if value is None:  # None clears a key
                    values.pop(key, None)
                else:
                    values[key] = value
        raise GraphError(f"The turn took more than {MOST_STEPS} steps. Its graph probably has an endless loop.")


def ways_of(spec: Graph, at: int, step: WrappedStep) -> Mapping[str, str]:
    """Return where the step leads, as label → step."""
    own = following(spec, at)
    ways = dict(own) if step.place.routes else {LABEL_OK: next(iter(own.values()))}
    if step.step.on_timeout:
        ways[LABEL_TIMEOUT] = step.step.on_timeout
    if step.step.on_error:
        ways[LABEL_ERROR] = step.step.on_error
    return ways
