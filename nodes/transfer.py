"""The node `transfer`: transfers the call to a person."""

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
    """Announce the transfer, then ask the host to transfer the call to a person.

    - `number`: a phone number or a SIP address.
    - `when`: a sentence for the model that says when to ask for the transfer.
    - `say`: the announcement, as one text or one per language (`en`, `zh`). It is left out if words were already spoken
      in this turn.
    - `tool`: the host's tool. Empty: the tool of the host's profile.
    - `command`: a text that the host obeys, sent in place of the tool call.
    - `finish`: the finish reason of the answer. Empty: the one of the host's profile.
    """
    arguments = {"number": number, "message": in_language(say, turn.question)}
    await act(state, turn, "transfer", say=say, arguments=arguments, tool=tool, command=command, finish=finish)
    return None
