"""The node `acknowledge`: prepares a filler that is spoken only if nothing else is spoken before it."""

from typing import Annotated, Literal

from pydantic import Field

from dialgraph import Filler, State, Turn, Update, node
from dialgraph.language.words import in_language
from dialgraph.models.history.text import text_of

Phrases = tuple[str, ...]
_PHRASES: dict[str, Phrases] = {
    "en": ("One moment.", "Let me check.", "Let me see."),
    "zh": ("请稍等。", "我查一下。", "让我看看。"),
}


@node()
async def acknowledge(
    state: State,
    turn: Turn,
    *,
    say: Annotated[Phrases, Field(min_length=1)] | Annotated[dict[str, Phrases], Field(min_length=1)] = _PHRASES,
    after_ms: Annotated[int, Field(ge=0)] | Literal["median"] = 300,
    min_ms: Annotated[int, Field(ge=0)] = 300,
    max_ms: Annotated[int, Field(ge=0)] = 1500,
    cooldown_ms: Annotated[int, Field(ge=0)] = 0,
) -> Update:
    """Say a short phrase if the caller still hears nothing after a while. The step itself does not wait.

    If the host fills silences itself, nothing is said.

    - `say`: a list of phrases, or one list per language (`en`, `zh`). A call never gets the same phrase twice in a row.
    - `after_ms`: how long to wait, in milliseconds. `median`: the median time that the last 50 turns of the endpoint
      took to their first word, but at least `min_ms` and at most `max_ms`. Before the first turn it is `max_ms`.
    - `cooldown_ms`: after a phrase, a call gets no other phrase for this time.
    """
    line = turn.line
    if turn.profile.fills_silence or (cooldown_ms and turn.call.id and _since(turn) * 1000 < cooldown_ms):
        return None
    if isinstance(after_ms, str):
        usual = turn.services.fillers.usual_ms(turn.endpoint)
        pause = max_ms if usual is None else min(max(usual, min_ms), max_ms)
    else:
        pause = after_ms

    async def speak() -> None:
        if phrase := _phrase(turn, _in_language(say, turn)):
            await line.send(Filler(phrase))

    line.late.arm(pause / 1000, speak)
    return None


def _in_language(say: Phrases | dict[str, Phrases], turn: Turn) -> Phrases:
    """Return the phrases in the caller's language, or in the language of the last message if they have not spoken."""
    words = turn.question or next((text_of(one.get("content")) for one in reversed(turn.messages)), "")
    return in_language(say, words)


def _since(turn: Turn) -> float:
    return turn.services.fillers.last((turn.call.principal, turn.call.id), turn.environment.now())[1]


def _phrase(turn: Turn, phrases: Phrases) -> str:
    """Return a phrase that differs from the last one of this call, or an empty text if there is none.

    The number of the turn chooses the first candidate, because some hosts send no call id. Phrases are skipped if this
    process said them last in the call, or if the last answer in the history begins with them.
    """
    turns = sum(message.get("role") == "user" for message in turn.messages)
    said = [message.get("content") for message in turn.messages if message.get("role") == "assistant"]
    last = said[-1] if said and isinstance(said[-1], str) else ""
    fillers, call = turn.services.fillers, (turn.call.principal, turn.call.id)
    now = turn.environment.now()
    before = fillers.last(call, now)[0] if turn.call.id else ""
    choices = [phrases[(turns + shift) % len(phrases)].rstrip() for shift in range(len(phrases))]
    fresh = [choice for choice in choices if choice != before and not last.startswith(choice.rstrip(".。"))]
    if not fresh:
        return ""
    if turn.call.id:
        fillers.spoke(call, fresh[0], now)
    return fresh[0] + " "
