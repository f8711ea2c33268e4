"""Fill a silence: arm a phrase that is spoken only if nothing else has been by then."""

from typing import Annotated

from pydantic import Field

from nodes.contract import State, Turn, Update, node
from nodes.events import Say


@node()
async def acknowledge(
    state: State,
    turn: Turn,
    *,
    say: Annotated[tuple[str, ...], Field(min_length=1)] = ("One moment. ", "Let me check. "),
    after_ms: Annotated[int, Field(ge=0)] = 300,
) -> Update:
    """Say one of its phrases if the caller still hears nothing after a while; it never waits itself."""
    line = turn.line

    async def speak() -> None:
        if phrase := _phrase(turn, say):
            await line.send(Say(phrase))

    line.after(after_ms / 1000, speak)
    return None


def _phrase(turn: Turn, phrases: tuple[str, ...]) -> str:
    """Another phrase than the last one of this call, ending in a space so that the answer does not stick to it.

    The turn number is the place to start, for hosts that give no call id; what this process last said in the call,
    or the history shows as said, is passed over. Empty if nothing is left.
    """
    turns = sum(message.get("role") == "user" for message in turn.messages)
    said = [message.get("content") for message in turn.messages if message.get("role") == "assistant"]
    last = said[-1] if said and isinstance(said[-1], str) else ""
    key = (turn.call.principal, turn.call.id)
    before = turn.services.phrases.get(key, "") if turn.call.id else ""
    choices = [phrases[(turns + shift) % len(phrases)].rstrip() for shift in range(len(phrases))]
    fresh = [choice for choice in choices if choice != before and not last.startswith(choice)]
    if not fresh:
        return ""
    if turn.call.id:
        turn.services.phrases[key] = fresh[0]
    return fresh[0] + " "
