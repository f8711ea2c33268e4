"""The node `greet`: answers a turn that did not begin with words of the caller."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from dialgraph import State, Turn, Update, node
from dialgraph.language.words import in_language
from dialgraph.models.history.text import text_of
from dialgraph.models.port import Message
from dialgraph.profiles.together import turn_source
from dialgraph.turn.actions import Words

_GREETING = {"en": "Hello! How can I help you?", "zh": "您好！请问有什么可以帮您？"}
_PROMPTS: tuple[Words, ...] = (
    {"en": "Are you still there?", "zh": "您还在吗？"},
    {"en": "I cannot hear you. Is there anything I can do for you?", "zh": "我没有听到您的声音，还需要帮助吗？"},
)


@node(writes="route", routes=("words", "spoken", "over"), speaks=True)
async def greet(
    state: State,
    turn: Turn,
    *,
    greeting: Words = _GREETING,
    prompts: Annotated[tuple[Words, ...], Field(min_length=1)] = _PROMPTS,
    most_prompts: Annotated[int, Field(ge=0, le=20)] = 2,
    voicemail: Words = "",
    language: str = "",
) -> Update:
    """Greet the caller, or ask whether they are still there, without a model.

    The route is:

    - `words` if the caller has said something. Nothing is spoken.
    - `spoken` after a greeting or a prompt.
    - `over` if all prompts are used up or an answering machine has answered. Lead this route to `hangup`.

    The host says what began the turn in `metadata.source` (`greeting`, `silence`, `voicemail` …). A turn without any
    user message opens the call.

    - `greeting`: what to say when the call opens.
    - `prompts`: what to say when the caller is silent: the first one, then the next one, and so on.
    - `most_prompts`: how many prompts to say before the route is `over`.
    - `voicemail`: what to say to an answering machine.
    - `language`: the language (`en`, `zh`) until the caller has said something. Empty: the language of the history.

    Every text can be one text, or one per language (`en`, `zh`).
    """
    source = turn_source(turn.call.source)
    words = _latest_words(turn)
    spoken_to = {"zh": "中文", "en": "English"}.get(language, "") if not turn.question else turn.question
    spoken_to = spoken_to or " ".join(text_of(one.get("content")) for one in turn.messages)
    if source == "voicemail":
        await turn.say(in_language(voicemail, spoken_to))
        return {"route": "over"}
    if source == "silence" or (not words and turn.question and source != "opening"):
        asked = _prompts_since_words(turn, prompts)
        if asked >= most_prompts:
            return {"route": "over"}
        await turn.say(in_language(prompts[min(asked, len(prompts) - 1)], spoken_to))
        return {"route": "spoken"}
    if words:
        return {"route": "words"}
    await turn.say(in_language(greeting, spoken_to))
    return {"route": "spoken"}


def _latest_words(turn: Turn) -> str:
    """Return what the caller said last, if this turn answers it; else an empty text."""
    last: Message = turn.messages[-1] if turn.messages else {}
    if last.get("role") == "assistant" or turn_source(turn.call.source) == "opening":
        return ""
    return turn.question


def _prompts_since_words(turn: Turn, prompts: tuple[Words, ...]) -> int:
    """Return how many prompts the caller got since they last spoke, counted in the history that the host sends."""
    texts = {text for prompt in prompts for text in ([prompt] if isinstance(prompt, str) else prompt.values())}
    count = 0
    for message in reversed(turn.messages):
        text = text_of(message.get("content"))
        metadata = message.get("metadata")
        source = turn_source(str(metadata.get("source"))) if isinstance(metadata, Mapping) else None
        if message.get("role") == "user" and text.strip() and source != "silence":
            break
        if message.get("role") == "assistant":
            count += any(prompt in text for prompt in texts) or source == "silence"
    return count
