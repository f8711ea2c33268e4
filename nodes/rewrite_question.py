"""The node `rewrite_question`: completes a follow-up question such as "and on Sundays?" before it is searched for."""

import re
from collections.abc import Sequence

from dialgraph import ModelError, Say, State, Turn, Update, node
from dialgraph.language.weights import tells
from dialgraph.language.words import is_chinese, words
from dialgraph.models.history.text import text_of
from dialgraph.models.port import ChatRequest, Message
from dialgraph.passages import LONGEST_QUESTION
from dialgraph.turn.events import Usage
from dialgraph.turn.watching import ModelCall

_BEGINS = re.compile(r"^\W*(and|or|but|so|what about|how about|what if|then)\b", re.IGNORECASE)
_POINTS = re.compile(r"\b(it|its|they|them|their|theirs|that|those)\b\W*", re.IGNORECASE)
_SAYS_NOTHING = re.compile(
    r"\b(is|was|would|will) it (possible|okay|ok|allowed|true|permitted|necessary)\b|\bthat (is|has|can|you|we|i)\b",
    re.IGNORECASE,
)
_GOES_ON_CHINESE = re.compile(r"^[，。？！\s]*(那么|那(?![个边里天些种次])|还有|另外|或者|然后)|呢[？?。!！]*$|它")
_FEW_UNITS = 3
_FEW_CHINESE_UNITS = 14
_VERY_FEW_CHINESE_UNITS = 3
_LOOKS_BACK = 3
_INSTRUCTION = (
    "Rewrite the caller's last sentence as one question that can be understood without the conversation. Keep the"
    " caller's language. Say only the question."
)


@node(reads="question", writes="question", uses={"model": "model"})
async def rewrite_question(state: State, turn: Turn, *, model: str = "") -> Update:
    """Complete a follow-up question, such as "and on Sundays?", so that a search finds what the caller means.

    Only a question that is short or refers to earlier words is changed.

    - `model`: the name of a model that rewrites the question. If it is empty or the model fails, the caller's earlier
      words are put in front of the question.
    """
    question = state["question"]
    said = _said_before(turn.messages)
    if not said or not goes_on(question):
        return {"question": question}
    if model and (rewritten := await _by_model(turn, model, question)):
        return {"question": rewritten}
    return {"question": " ".join([*said, question])}


def goes_on(question: str) -> bool:
    """Return whether the question needs the earlier words. If unsure, return False: a wrong True finds old passages."""
    text = question.strip()
    telling = sum(tells(unit) for unit in words(text))
    if is_chinese(text):
        pointing = bool(_GOES_ON_CHINESE.search(text)) and telling <= _FEW_CHINESE_UNITS
        return pointing or telling <= _VERY_FEW_CHINESE_UNITS
    if _BEGINS.search(text):
        return telling <= _FEW_UNITS
    return telling == 0 or (telling <= 2 and bool(_POINTS.search(_SAYS_NOTHING.sub("", text))))


def _said_before(messages: Sequence[Message]) -> list[str]:
    """Return the caller's earlier texts, back to the last one that can be understood alone."""
    spoken = [message for message in messages if message.get("role") == "user"][-_LOOKS_BACK - 1 : -1]
    said = [text_of(message.get("content"))[-LONGEST_QUESTION:] for message in spoken]
    found: list[str] = []
    for text in reversed(said):
        if text.strip():
            found.insert(0, text.strip())
            if not goes_on(text):
                break
    return found


async def _by_model(turn: Turn, name: str, question: str) -> str:
    """Return the question as the model rewrote it, or an empty text if it gave none."""
    talk = [message for message in turn.messages if message.get("role") in ("user", "assistant")][-6:]
    messages: list[Message] = [{"role": "system", "content": _INSTRUCTION}, *talk]
    request = ChatRequest(messages, {"max_tokens": 80, "temperature": 0}, environment=turn.environment)
    call = ModelCall(turn.place.step, name, messages, request.parameters)
    try:
        async with turn.asking(call):
            async for part in turn.services.model(name).stream(request, turn.stack):
                call.time.first = call.time.first or turn.environment.now()
                if isinstance(part, Say):
                    call.said.append(part.text)
                elif isinstance(part, Usage):
                    call.usage = part
                    await turn.emit(part)
    except ModelError:
        return ""
    return " ".join("".join(call.said).split())[:500]
