"""Prepares a turn before its first step: adds the tools, memory and outlets of its graph."""

from dialgraph.graph.outlets import Outlets
from dialgraph.graph.policy import Memory
from dialgraph.graph.spec import Graph
from dialgraph.storage.remembered import CallKey
from dialgraph.tools.functions import FunctionTools
from dialgraph.turn.memory import CallMemory
from dialgraph.turn.text_outlet import TextOutlet
from dialgraph.turn.turn import Turn


class Preparation:
    """Prepares each turn of one graph before its first step."""

    def __init__(self, spec: Graph, outlets: Outlets, functions: FunctionTools) -> None:
        self.spec = spec
        self._outlets = outlets
        self._functions = functions

    def attach(self, turn: Turn) -> TextOutlet | None:
        """Give the turn the memory, tools and outlets of its graph, once. Return the outlet that the text passes."""
        if turn.prepared:
            return None
        memory = self.spec.policy.memory
        turn.prepare(self._functions, None if memory is None else self._memory(turn, memory))
        return self._outlets.attach(turn)

    def _memory(self, turn: Turn, declared: Memory) -> CallMemory:
        key = CallKey(turn.call.principal, self.spec.name, turn.call.id)
        return CallMemory(turn.services.memory, key, declared.slots, declared.lifetime_minutes * 60)
