"""The node `remember`: stores what the caller has said."""

from collections.abc import Mapping
from typing import Any

from dialgraph import ModelError, State, Turn, Update, node
from dialgraph.turn.actions import arguments_of
from dialgraph.turn.node import Tool

_SCHEMAS: dict[str, dict[str, object]] = {
    "text": {"type": "string"},
    "number": {"type": "number"},
    "date": {"type": "string", "format": "date", "description": "A date like 2026-11-21."},
    "yes_no": {"type": "boolean"},
}


def _tool(*, tool: str = "remember", slots: Mapping[str, str] | None = None, **_: Any) -> Tool:
    return {
        "type": "function",
        "function": {
            "name": tool,
            "description": "Keep what the caller has told. Call it as soon as you know one of these.",
            "parameters": {
                "type": "object",
                "properties": {name: _SCHEMAS[kind] for name, kind in (slots or {}).items()},
                "additionalProperties": False,
            },
        },
    }


MOST_PASSES = 8
"""How often a model may call this tool in one turn before it has to speak."""


@node(may_read=("tool_call", "passes"), writes="passes", offers=_tool, needs_memory=True)
async def remember(
    state: State,
    turn: Turn,
    *,
    stage: str | None = None,
    values: dict[str, str | int | float | bool | None] | None = None,
    tool: str = "remember",
) -> Update:
    """Store values in the memory of the call: those that the model gave in its tool call, and the fixed `values`.

    A value of the wrong type is not stored. Templates can show the problem (`memory.problems`).

    - `stage`: the stage of the call from now on, which `recall` uses as its route. `""`: clear the stage, so that the
      missing slots decide. Null: leave it as it is.
    - `values`: fixed values, by slot. Null as a value empties the slot.
    - `tool`: the name of the tool that the model calls.
    """
    passes = state.get("passes", 0) + 1
    if passes > MOST_PASSES:
        raise ModelError("malformed", "The model called the memory tool too often and did not speak.")
    given = arguments_of(state) if state.get("tool_call", {}).get("name") == tool else {}
    await turn.memory.keep({**given, **(values or {})}, stage)
    return {"passes": passes}
