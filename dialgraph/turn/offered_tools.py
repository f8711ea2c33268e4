"""The tools that the steps of a graph offer to a model, together with the tools of the request."""

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
    """The graph's tools that a model may call in one answer."""

    by_name: Mapping[str, Offer] = field(default_factory=dict)
    spent: frozenset[str] = frozenset()
    """Tools that the model may not call again in this turn. They are still declared, because the prompt shows earlier
    calls of them."""
    unknown: Offer | None = None
    """The offer for a tool that the model made up. `run_tools` then answers that there is no such tool."""
    requested: frozenset[str] = frozenset()
    """The names of the tools that the request declares."""
    again: bool = False
    """Whether tools have already run in this turn."""

    @property
    def runs_tools(self) -> bool:
        """Return whether some of the tools run on this server."""
        return self.unknown is not None

    def of(self, name: str) -> Offer | None:
        """Return the offer for a call of this name, or None for a call of a tool that the request declares."""
        return self.by_name.get(name) or (self.unknown if name not in self.requested else None)

    def parameters(self, turn: Turn, own: Mapping[str, Any]) -> dict[str, object]:
        """Return the parameters for the model, which are sent with the messages."""
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
            parameters["tool_choice"] = "auto"  # the call that `tool_choice` demanded has been made
        if not tools:
            # Some hosts send a tool_choice without any tools, which providers refuse.
            for name in PER_REQUEST:
                parameters.pop(name, None)
        if turn.line.voiced:
            for name in ("modalities", "audio"):
                parameters.pop(name, None)
        return parameters


async def offered_tools(state: State, turn: Turn) -> OfferedTools:
    """Return the offered tools by the name that the model should call.

    If the host sent its own tool for the same action, this is the name of the host's tool.
    """
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
    """Collects the calls of our tools and keeps them from the client. Passes on the calls of the client's tools."""

    def __init__(self, offered: OfferedTools, declared: Collection[str] | None = None) -> None:
        self.refused = False
        """Whether a call was refused because its tool was not declared."""
        self._declared = declared
        """The only tools that may be called, if the prompt contains passages. None: the model may call any tool."""
        self.kept = False
        """Whether at least one call was for one of our tools."""
        self.calls: dict[int, dict[str, Any]] = {}
        """The calls to run, by the model's index: the first one, and those that can run at the same time."""
        self._offered = offered
        self._relayed: dict[int, int] = {}
        self._ours: set[int] = set()
        self._refused: set[int] = set()

    def keep(self, part: ToolCallPart) -> ToolCallPart | None:
        """Return the part as the client should get it, renumbered, or None if it should not get it."""
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
        """Return the update of the state: the next route and the calls for its step.

        `said`: what the model said. `attached`: what the provider sent with these words.
        """
        calls = list(self.calls.values())
        if not calls:
            return {}
        offer = self._offered.of(calls[0]["name"])
        if offer is None:
            return {}
        if not offer.runs:
            return {"route": offer.route, "tool_call": {"name": calls[0]["name"], "arguments": calls[0]["arguments"]}}
        if self._relayed:
            # The caller runs their own tools first and asks again. Then the model asks for our tools again too.
            return {}
        return {"route": offer.route, "tool_calls": calls, "said": said, "attached": attached}
