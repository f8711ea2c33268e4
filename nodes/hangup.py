"""End the call."""

from typing import Any

from dialgraph import State, Turn, Update, node
from dialgraph.turn.actions import FinishReason, Words, act, offered_tool
from dialgraph.turn.node import Tool

_GOODBYE = {"en": "Goodbye!", "zh": "再见！"}


def _tool(*, tool: str = "", **_: Any) -> Tool:
    return offered_tool(
        tool or "hangup", "End the phone call. Call it when the caller says goodbye or asks you to hang up."
    )


@node(may_read="tool_call", speaks=True, offers=_tool, action="hangup")
async def hangup(
    state: State,
    turn: Turn,
    *,
    say: Words = _GOODBYE,
    reason: str = "The call is over.",
    tool: str = "",
    command: str = "",
    finish: FinishReason = "",
) -> Update:
    """Say goodbye, unless words were spoken already, then tell the host to hang up, once.

    `say` is one text, or one a language (`en`, `zh`). `tool` (`hangup`, `endCall`, `end_call` …) and `finish` are the
    profile's if they are empty. `command` replaces the call by text that the host obeys, such as Alibaba's
    `<imsagent_hangup/>`. `reason` goes to hosts that ask for one.
    """
    arguments = {"reason": reason}
    await act(state, turn, "hangup", say=say, arguments=arguments, tool=tool, command=command, finish=finish)
    return None
