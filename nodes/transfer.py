"""Hand the call over to a person."""

from typing import Annotated, Any

from pydantic import Field

from dialgraph import State, Turn, Update, node
from dialgraph.language.words import in_language
from dialgraph.turn.actions import FinishReason, Words, act, offered_tool
from dialgraph.turn.node import Tool

_HANDING_OVER = {"en": "I will put you through. One moment, please.", "zh": "我为您转接，请稍等。"}


def _tool(*, tool: str = "", when: str = "", **_: Any) -> Tool:
    return offered_tool(tool or "transfer", f"Hand the call over to a person. {when}".strip())


@node(may_read="tool_call", speaks=True, offers=_tool, action="transfer")
async def transfer(
    state: State,
    turn: Turn,
    *,
    number: Annotated[str, Field(min_length=1, max_length=200)],
    when: str = "Call it when the caller asks for a person.",
    say: Words = _HANDING_OVER,
    tool: str = "",
    command: str = "",
    finish: FinishReason = "",
) -> Update:
    """Say so, unless words were spoken already, then tell the host to transfer the call, once.

    `number` is a phone number or a SIP address. `when` tells the model when to ask for it. `tool` and `finish` are the
    profile's if they are empty; `command` replaces the call by text that the host obeys.
    """
    arguments = {"number": number, "message": in_language(say, turn.question)}
    await act(state, turn, "transfer", say=say, arguments=arguments, tool=tool, command=command, finish=finish)
    return None
