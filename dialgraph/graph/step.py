"""Wraps a step: adds its deadline, its retries, its way on after an error, and its timing."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from langgraph.errors import GraphBubbleUp

from dialgraph.graph.errors import GraphError, StepTimeoutError
from dialgraph.graph.paths import LABEL_ERROR, LABEL_OK, LABEL_TIMEOUT
from dialgraph.graph.places import STEP_NOTE, is_ours, placed
from dialgraph.graph.spec import Step
from dialgraph.turn.events import Timing
from dialgraph.turn.node import Node, Turn, Update
from dialgraph.turn.step_place import StepPlace

log = logging.getLogger(__name__)

Outcome = Literal["ok", "timeout", "error"]


@dataclass(frozen=True)
class WrappedStep:
    """A step that is ready to run, for any number of turns."""

    step: Step
    node: Node
    options: Mapping[str, Any]
    place: StepPlace

    @property
    def chooses(self) -> bool:
        """Return whether the step can continue in more than one way."""
        return bool(self.place.routes or self.step.on_timeout or self.step.on_error)

    async def run(self, state: Mapping[str, Any], turn: Turn) -> dict[str, Any]:
        """Run the step. Return its update of the state, with its route."""
        view = turn.at_step(self.place)
        started = turn.line.elapsed_ms()
        turn.times.open_steps[self.step.id] = turn.environment.now()
        outcome: Outcome | None = "error"
        if view.watched:
            readable = (*self.node.reads, *self.node.may_read)
            await view.begin(self.step.id, {key: state[key] for key in readable if key in state})
        try:
            update, outcome = await self._attempts(state, view)
        except GraphBubbleUp:  # LangGraph stops the run here, for example to ask the author something
            outcome = None
            raise
        finally:
            turn.times.open_steps.pop(self.step.id, None)
            if outcome is not None:
                timing = Timing(self.step.id, started, turn.line.elapsed_ms(), outcome)
                turn.times.steps.append(timing)
                if not _is_cancelled():
                    await turn.line.send(timing)
        if view.watched:
            await view.report(self.step.id, update)
        route = update.pop("route", None)
        if not self.chooses:
            return {**update, "route": None}
        if outcome != "ok":
            return {**update, "route": LABEL_TIMEOUT if outcome == "timeout" else LABEL_ERROR}
        return {**update, "route": self._checked_route(route)}

    async def _attempts(self, state: Mapping[str, Any], view: Turn) -> tuple[dict[str, Any], Outcome]:
        for attempt in range(self.step.retry + 1):
            deadline = asyncio.timeout(self.step.timeout_ms / 1000 if self.step.timeout_ms else None)
            try:
                async with deadline:
                    try:
                        update = await self.node.run(state, view, **self.options)
                    except SystemExit as error:
                        raise GraphError(self._wrong("it called `sys.exit`, which would stop the server")) from error
                    except asyncio.CancelledError as error:
                        if _is_cancelled():
                            raise
                        raise GraphError(self._wrong("it raised CancelledError, but nobody cancelled it")) from error
                return self._checked(update), "ok"
            except GraphBubbleUp:
                raise
            except Exception as error:  # a node may raise anything; the graph says where an error leads
                late = deadline.expired()
                if late:
                    view.line.fired(f"timeout of {self.step.id}")
                if not late and attempt < self.step.retry and not view.spoke:
                    log.warning(
                        "a step failed; it will run again", extra={"step": self.step.id, "error": type(error).__name__}
                    )
                    continue
                # After words were spoken, another step must not say them again.
                if (self.step.on_timeout if late else self.step.on_error) and not view.spoke:
                    log.warning(
                        "a step failed; the graph continued with another step",
                        extra={"step": self.step.id, "error": type(error).__name__},
                    )
                    return {}, "timeout" if late else "error"
                if late:
                    raise StepTimeoutError(f"The step {self.step.id!r} exceeded its time limit.") from error
                if not is_ours(error) and not hasattr(error, "__notes__"):
                    error.add_note(f"{STEP_NOTE}{self.step.id!r}")
                raise
        raise AssertionError("the last attempt did not return or raise")

    def _checked(self, update: Update) -> dict[str, Any]:
        given: object = update  # a node may return anything
        if given is not None and not isinstance(given, Mapping):
            key = self.node.writes[0] if self.node.writes else "key"
            accepted = f'Accepted: a table such as `{{"{key}": …}}`, or None.'
            raise GraphError(self._wrong(f"it returned {type(given).__name__}. {accepted}"))
        update = dict(update or {})
        if undeclared := sorted(map(repr, update.keys() - set(self.node.writes))):
            accepted = f"Accepted: {', '.join(map(repr, self.node.writes)) or 'no key'}."
            raise GraphError(self._wrong(f"it wrote {undeclared[0]}, which it does not declare. {accepted}"))
        return update

    def _wrong(self, what: str) -> str:
        """Return a sentence about the node, with its file and line."""
        code = getattr(self.node.run, "__code__", None)
        place = f"{placed(code.co_filename, code.co_firstlineno)}: " if code is not None else ""
        return f"step {self.step.id!r}: {place}node {self.node.name!r}: {what}"

    def _checked_route(self, route: object) -> str:
        if not self.place.routes:
            return LABEL_OK
        if route not in self.place.routes:
            accepted = ", ".join(map(repr, self.place.routes))
            raise GraphError(f"step {self.step.id!r}: unknown route {route!r}. Accepted: {accepted}.")
        return str(route)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
