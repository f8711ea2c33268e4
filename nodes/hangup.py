"""End the call."""

from typing import Any, Literal
from uuid import uuid4

import orjson

from language.words import is_chinese
from nodes.contract import State, Tool, Turn, Update, node
from nodes.events import Finish, ToolCall

_GOODBYE = {"en": "Goodbye!", "zh": "再见！"}


def _tool(*, tool: str = "hangup", **_: Any) -> Tool:
    return {
        "type": "function",
        "function": {
            "name": tool,
            "description": "End the phone call. Call it when the caller says goodbye or asks you to hang up.",
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
        },
    }


@node(may_read="tool_call", speaks=True, offers=_tool)
async def hangup(
    state: State,
    turn: Turn,
    *,
    say: str | dict[str, str] = _GOODBYE,
    tool: str = "hangup",
    command: str = "",
    finish: Literal["tool_calls", "stop"] = "tool_calls",
) -> Update:
    """Say goodbye, unless words were spoken already, then tell the host to hang up, once.

    `say` is one text, or one a language (`en`, `zh`). `tool` is the host's name for it: `hangup`, `endCall` …
    `command` replaces the call by text that the host obeys, such as Alibaba's `<imsagent_hangup/>`.
    """
    if not turn.line.answered:
        language = "zh" if is_chinese(turn.question) else "en"
        await turn.say(say if isinstance(say, str) else say.get(language, next(iter(say.values()), "")))
    if command:
        await turn.say(command)
        await turn.emit(Finish("stop"))
        return None
    await turn.emit(ToolCall(f"call_{uuid4().hex[:24]}", tool, _arguments(state, tool)))
    await turn.emit(Finish(finish))
    return None


def _arguments(state: State, tool: str) -> str:
    """What the model gave (ElevenLabs' end_call takes a reason), if it is a JSON object; else none."""
    call = state.get("tool_call", {})
    if call.get("name") == tool:
        try:
            arguments = orjson.loads(call.get("arguments") or "{}")
        except orjson.JSONDecodeError:
            return "{}"
        if isinstance(arguments, dict):
            return orjson.dumps(arguments).decode()
    return "{}"
