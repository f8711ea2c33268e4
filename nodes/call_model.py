"""Let a model answer."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from models.port import ChatRequest
from nodes.contract import State, Turn, Update, node
from nodes.events import Finish, Say, ToolCallPart
from nodes.messages import upstream_messages


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
    request = ChatRequest(
        messages=state.get("prompt") or upstream_messages(turn.messages),
        parameters=_parameters(turn, parameters or {}),
        model=upstream_model or turn.model,
        api_key=turn.api_key,
        passages=[passage.text for passage in state.get("passages", [])],
    )
    asked = _OfferedCalls(turn.offered)
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
            "route": turn.offered[asked.name][0],
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


def _parameters(turn: Turn, own: Mapping[str, Any]) -> dict[str, object]:
    parameters: dict[str, object] = {**turn.request, **own}
    if turn.offered:
        given = parameters.get("tools")
        tools = list(given) if isinstance(given, Sequence) else []
        names = [_name(tool) for tool in tools]
        parameters["tools"] = tools + [tool for name, (_, tool) in turn.offered.items() if name not in names]
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


def _name(tool: object) -> object:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return function.get("name") if isinstance(function, Mapping) else None
