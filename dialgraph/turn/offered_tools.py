"""The tools that a graph's own steps offer to a model, among those that the request brought along."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dialgraph.turn.events import ToolCallPart
from dialgraph.turn.host_tools import action_form
from dialgraph.turn.node import State, Turn
from dialgraph.turn.step_place import Offer, tool_name

PER_REQUEST = ("tools", "tool_choice", "parallel_tool_calls")


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """What one answer of a model may call of ours."""

    by_name: Mapping[str, Offer] = field(default_factory=dict)
    spent: frozenset[str] = frozenset()
    """Tools that the model has called often enough in this turn: still declared, because its prompt shows calls of
    them, but no more to be called."""
    unknown: Offer | None = None
    """Stands for a tool that the model made up: where tools run on our side, it is told that there is none."""
    requested: frozenset[str] = frozenset()
    """The caller's own tools."""
    again: bool = False
    """Whether tools have run in this turn already."""

    @property
    def runs_tools(self) -> bool:
        """Whether some of them run on our side."""
        return self.unknown is not None

    def of(self, name: str) -> Offer | None:
        """The offer that a call of this name takes; None for a call of the caller's own tools."""
        return self.by_name.get(name) or (self.unknown if name not in self.requested else None)

    def parameters(self, turn: Turn, own: Mapping[str, Any]) -> dict[str, object]:
        """What goes to the model beside the messages."""
        parameters: dict[str, object] = {**turn.request, **own}
        given = parameters.get("tools")
        tools = list(given) if isinstance(given, Sequence) else []
        names = {tool_name(tool) for tool in tools}
        tools += [offer.tool for name, offer in self.by_name.items() if name not in names]
        if tools:
            parameters["tools"] = tools
        if self.spent and self.spent >= {tool_name(tool) for tool in tools}:
            parameters["tool_choice"] = "none"
        elif self.again and parameters.get("tool_choice") not in (None, "none"):
            parameters["tool_choice"] = "auto"  # what was demanded of the answer has been done
        if not tools:
            # Some hosts send a choice without anything to choose from, which providers refuse.
            for name in PER_REQUEST:
                parameters.pop(name, None)
        if turn.line.voiced:
            for name in ("modalities", "audio"):
                parameters.pop(name, None)
        return parameters


async def offered_tools(state: State, turn: Turn) -> OfferedTools:
    """By the name that the model is to call: the host's own, where the host sent one for the same thing."""
    if not turn.place.offered and turn.place.toolset is None:
        return OfferedTools()
    requested = turn.requested_tools
    offered: dict[str, Offer] = {}
    for name, offer in turn.place.offered.items():
        hosts = action_form(turn, offer.action).tool if offer.action else name
        offered[hosts if hosts in requested and name not in requested else name] = offer
    if turn.place.toolset is None:
        return OfferedTools(offered)
    own = {
        name: Offer(turn.place.toolset.route, tool, runs=True)
        for name, (tool, _) in (await turn.tools(turn.place.toolset.servers)).items()
        if name not in requested and (not turn.place.toolset.only or name in turn.place.toolset.only)
    }
    passes = state.get("passes", 0)
    spent = frozenset(own) if passes >= turn.place.toolset.passes else frozenset()
    unknown = Offer(turn.place.toolset.route, {}, runs=True)
    return OfferedTools({**own, **offered}, spent, unknown, frozenset(requested), again=passes > 0)


class OfferedCalls:
    """Keeps calls of our tools from the caller; calls of his own pass, renumbered."""

    def __init__(self, offered: OfferedTools, declared: Collection[str] | None = None) -> None:
        self.refused = False
        """Whether a call was refused, because nobody had declared its tool."""
        self._declared = declared
        """The only tools that may be called, where the prompt holds words of others; None: whatever the model calls."""
        self.kept = False
        """Whether any call was one of ours."""
        self.calls: dict[int, dict[str, Any]] = {}
        """Those that are to be honoured, by the model's index: the first one, and what can run beside it."""
        self._offered = offered
        self._relayed: dict[int, int] = {}
        self._ours: set[int] = set()
        self._refused: set[int] = set()

    def keep(self, part: ToolCallPart) -> ToolCallPart | None:
        """The part as the caller is to get it, or None."""
        offer = self._offered.of(part.name) if part.name is not None else None
        if offer is not None and part.name is not None:
            self.kept = True
            self._ours.add(part.index)
            first = next(iter(self.calls.values()), None)
            beside = first is None or (offer.runs and self._runs(first["name"]))
            if beside and part.name not in self._offered.spent:
                self.calls[part.index] = {
                    "id": part.id or "", "name": part.name, "arguments": "", "extra": part.extra,
                }  # fmt: skip
        if offer is None and part.name is not None and self._declared is not None and part.name not in self._declared:
            self.refused = True
            self._refused.add(part.index)
        elif part.name is not None:
            self._refused.discard(part.index)
        if part.index in self._refused:
            return None
        if part.index in self._ours:
            if part.index in self.calls:
                self.calls[part.index]["arguments"] += part.arguments
            return None
        index = self._relayed.setdefault(part.index, len(self._relayed))
        return part if index == part.index else replace(part, index=index)

    def _runs(self, name: str) -> bool:
        offer = self._offered.of(name)
        return offer is not None and offer.runs

    def update(self, said: str, attached: Mapping[str, object]) -> dict[str, object]:
        """What the next step has to know, and which one it is. `attached`: what came with the words beside them."""
        calls = list(self.calls.values())
        if not calls:
            return {}
        offer = self._offered.of(calls[0]["name"])
        if offer is None:
            return {}
        if not offer.runs:
            return {"route": offer.route, "tool_call": {"name": calls[0]["name"], "arguments": calls[0]["arguments"]}}
        if self._relayed:
            # The caller runs his tools first and asks again; then the model asks for ours again too.
            return {}
        return {"route": offer.route, "tool_calls": calls, "said": said, "attached": attached}
