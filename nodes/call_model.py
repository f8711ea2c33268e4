"""Let a model answer."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from models.port import ChatRequest
from nodes.contract import State, Turn, Update, node
from nodes.events import Finish, Say, ToolCallPart
from nodes.messages import upstream_messages
from nodes.turn import Offer, tool_name


@node(
    may_read=("prompt", "passages"),
    writes=("tool_call", "route"),
    routes=("answered",),
    speaks=True,
    uses={"model": "model"},
)
async def call_model(
    state: State,
    turn: Turn,
    *,
    model: str = "main",
    upstream_model: str = "",
    parameters: dict[str, Any] | None = None,
) -> Update:
    """Stream a model's answer to the caller.

    Every parameter of the request goes on to the model; `parameters` are the graph's own and win. A step in its `then`
    table that offers a tool (hangup) is asked for by the model through that tool; the route is then that step's entry,
    else `answered`.
    """
    offered = _offered(turn)
    request = ChatRequest(
        messages=state.get("prompt") or upstream_messages(turn.messages),
        parameters=_parameters(turn, offered, parameters or {}),
        model=upstream_model or turn.model,
        api_key=turn.api_key,
        passages=[passage.text for passage in state.get("passages", [])],
    )
    asked = _OfferedCalls(offered)
    async with aclosing(turn.services.model(model).stream(request, turn.stack)) as parts:
        async for part in parts:
            if type(part) is Say:
                await turn.emit(part)
            elif isinstance(part, ToolCallPart):
                if (relayed := asked.keep(part)) is not None:
                    await turn.emit(relayed)
            elif not (isinstance(part, Finish) and asked.name):
                await turn.emit(part)
    if asked.name:
        return {
            "route": offered[asked.name].route,
            "tool_call": {"name": asked.name, "arguments": asked.arguments},
        }
    return {"route": "answered"}


class _OfferedCalls:
    """Keeps calls of offered tools from the caller and honours the first; calls of his own tools pass, renumbered."""

    def __init__(self, offered: Mapping[str, object]) -> None:
        self.name = ""
        self.arguments = ""
        self._offered = offered
        self._kept: dict[int, bool] = {}
        self._relayed: dict[int, int] = {}

    def keep(self, part: ToolCallPart) -> ToolCallPart | None:
        """The part as the caller is to get it, or None."""
        if part.name in self._offered:
            self._kept[part.index] = not self.name
            self.name = self.name or part.name or ""
        if part.index in self._kept:
            if self._kept[part.index]:
                self.arguments += part.arguments
            return None
        index = self._relayed.setdefault(part.index, len(self._relayed))
        return part if index == part.index else ToolCallPart(index, part.id, part.name, part.arguments)


def _offered(turn: Turn) -> dict[str, Offer]:
    """The offered tools by the name that the model is to call: the host's own, where the host sent one for it."""
    given = turn.requested_tools
    offered = {}
    for name, offer in turn.offered.items():
        hosts = turn.profile.form(offer.action).tool if offer.action else name
        offered[hosts if hosts in given and name not in given else name] = offer
    return offered


def _parameters(turn: Turn, offered: Mapping[str, Offer], own: Mapping[str, Any]) -> dict[str, object]:
    parameters: dict[str, object] = {**turn.request, **own}
    if offered:
        tools = _tools(parameters)
        names = [tool_name(tool) for tool in tools]
        parameters["tools"] = tools + [offer.tool for name, offer in offered.items() if name not in names]
    if not parameters.get("tools"):
        # Some hosts send a choice without anything to choose from, which providers refuse.
        for field in ("tools", "tool_choice", "parallel_tool_calls"):
            parameters.pop(field, None)
    if turn.line.voiced:
        for field in ("modalities", "audio"):
            parameters.pop(field, None)
    if not turn.streaming:
        parameters["stream_options"] = {"include_usage": True}
    return parameters


def _tools(parameters: Mapping[str, object]) -> list[object]:
    given = parameters.get("tools")
    return list(given) if isinstance(given, Sequence) else []
