"""The node `hangup`: ends the call."""

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
    """Say goodbye, then ask the host to hang up.

    - `say`: the goodbye, as one text or one per language (`en`, `zh`). It is left out if words were already spoken in
      this turn.
    - `reason`: the reason, for hosts that ask for one.
    - `tool`: the host's tool (`hangup`, `endCall`, `end_call` …). Empty: the tool of the host's profile.
    - `command`: a text that the host obeys, sent in place of the tool call, such as Alibaba's `<imsagent_hangup/>`.
    - `finish`: the finish reason of the answer. Empty: the one of the host's profile.
    """
    arguments = {"reason": reason}
    await act(state, turn, "hangup", say=say, arguments=arguments, tool=tool, command=command, finish=finish)
    return None
