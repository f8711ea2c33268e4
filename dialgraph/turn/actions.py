"""Shared code of the steps that act on the call: they speak first, then send one action in the host's own form."""

from collections.abc import Mapping
from typing import Annotated, Literal

import orjson
from pydantic import Field

from dialgraph.language.words import in_language
from dialgraph.profiles.profile import ActionKind
from dialgraph.turn.events import Action
from dialgraph.turn.host_tools import action_form
from dialgraph.turn.node import State, Tool, Turn

Words = str | Annotated[dict[str, str], Field(min_length=1)]
"""One text, or one per language: `en`, `zh`."""
FinishReason = Literal["", "tool_calls", "stop"]


def offered_tool(name: str, description: str, properties: Mapping[str, object] | None = None) -> Tool:
    """Return a tool that a model can call to ask for a step. Every property is required."""
    properties = properties or {}
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            },
        },
    }


def arguments_of(state: State) -> dict[str, object]:
    """Return the arguments of the model's tool call, or an empty dictionary if they are not a JSON object."""
    try:
        arguments = orjson.loads(str(state.get("tool_call", {}).get("arguments") or "{}"))
    except orjson.JSONDecodeError:
        return {}
    return arguments if isinstance(arguments, dict) else {}


async def act(
    state: State,
    turn: Turn,
    kind: ActionKind,
    *,
    say: Words,
    arguments: Mapping[str, str],
    tool: str,
    command: str,
    finish: FinishReason,
) -> None:
    """Speak, unless words were spoken already. Then send the action to the host, once."""
    if not turn.line.heard_words:
        await turn.say(in_language(say, turn.question))
    given = ""
    form = action_form(turn, kind)
    hosts = tool or form.tool
    if state.get("tool_call", {}).get("name") == hosts and hosts in turn.requested_tools:
        # The model called the host's own tool, so its arguments already have the host's form.
        given = orjson.dumps(arguments_of(state)).decode()
    identity = turn.environment.id("call_", 24)
    await turn.emit(Action(identity, kind, arguments, given if given != "{}" else "", tool, command, finish, form))
