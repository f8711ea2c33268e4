"""The node `send_digits`: presses keys of the phone, for a menu at the other end."""

import re
from typing import Annotated, Any

from pydantic import Field

from dialgraph import ModelError, State, Turn, Update, node
from dialgraph.turn.actions import FinishReason, Words, act, arguments_of, offered_tool
from dialgraph.turn.host_tools import action_form
from dialgraph.turn.node import Tool

_NO_KEY = re.compile(r"[^0-9A-D*#wW]")
"""Everything except the sixteen keys and the pauses `w` (half a second) and `W` (one second)."""


def _tool(*, tool: str = "", digits: str = "", **_: Any) -> Tool:
    keys = {"type": "string", "description": "0-9, * and #; w is a pause of half a second, W of a second."}
    name, about = tool or "send_digits", "Press keys of the phone, in a menu that asks for it."
    return offered_tool(name, about, None if digits else {"digits": keys})


@node(may_read="tool_call", speaks=True, offers=_tool, action="digits")
async def send_digits(
    state: State,
    turn: Turn,
    *,
    digits: Annotated[str, Field(pattern=r"^[0-9A-D*#wW]*$", max_length=64)] = "",
    say: Words = "",
    tool: str = "",
    command: str = "",
    finish: FinishReason = "",
) -> Update:
    """Ask the host to press keys of the phone, for a menu at the other end.

    - `digits`: the keys `0-9`, `A-D`, `*` and `#`, and the pauses `w` (half a second) and `W` (one second). Empty: the
      keys that the model asked for.
    - `say`: what to say first, as one text or one per language (`en`, `zh`). It is left out if words were already
      spoken in this turn.
    - `tool`: the host's tool. Empty: the tool of the host's profile.
    - `command`: a text that the host obeys, sent in place of the tool call.
    - `finish`: the finish reason of the answer. Empty: the one of the host's profile.
    """
    keys = digits or _NO_KEY.sub("", str(arguments_of(state).get("digits", "")))[:64]
    hosts_tool = (tool or action_form(turn, "digits").tool) in turn.requested_tools
    if not keys and not hosts_tool and not command:
        raise ModelError("malformed", "The model asked to press keys, but named no valid key.")
    await act(state, turn, "digits", say=say, arguments={"digits": keys}, tool=tool, command=command, finish=finish)
    return None
