"""The embedded model, which needs no key and no network. It answers with the one or two sentences of the passages that
fit the question best. It ends the call if the caller says goodbye and the request offers a tool for that.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from math import log

from dialgraph.language.focus import focus
from dialgraph.language.sentences import sentences
from dialgraph.language.words import is_chinese, is_stop_word, words
from dialgraph.models.breaker import Breaker
from dialgraph.models.goodbye import is_goodbye
from dialgraph.models.history.text import last_user_text
from dialgraph.models.parts import Finish, Part, Say, ToolCallPart, Usage
from dialgraph.models.port import ChatRequest, ModelAddress

_HANGUP_NAME = re.compile(r"hang_?up|end_?call|挂断", re.IGNORECASE)
_PIECE = re.compile(r"\s*\S{1,12}")
_NO_MODEL = {
    False: "No language model is configured yet, so I can only answer from a knowledge base. "
    "Set OPENAI_API_KEY, and LLM_BASE_URL for another provider, and start the server again.",
    True: "还没有配置语言模型，所以我只能根据知识库回答。"
    "请设置 OPENAI_API_KEY，使用其他服务商时再设置 LLM_BASE_URL，然后重新启动服务。",
}
_NOTHING_FOUND = {
    False: "I am sorry, I did not find anything about that.",
    True: "很抱歉，我没有找到相关的内容。",
}
_SATURATION = 1.2
_LONGEST_QUESTION = 2000
_WORTH_SAYING = 0.4
"""The least score of a second sentence, as a share of the best one's. Below it, only common words match."""


class ExtractiveModel:
    """The embedded model. It has no state and costs no tokens."""

    def __init__(self, name: str, address: ModelAddress) -> None:
        self.breaker = Breaker(name, 0)

    async def prewarm(self) -> None:
        """Do nothing: there is nothing to prepare."""

    async def stream(self, request: ChatRequest, stack: AsyncExitStack) -> AsyncGenerator[Part, None]:
        """Yield the words in small pieces, as a model streams them; on a goodbye, yield only the tool call."""
        said = last_user_text(request.messages)[-_LONGEST_QUESTION:]
        question = request.question or said
        hangup = _hangup_tool(request.parameters.get("tools"))
        if hangup is not None and is_goodbye(said):
            yield ToolCallPart(0, "call_goodbye", hangup, "{}")
            yield Usage(0, 0, 0)
            yield Finish("tool_calls")
            return
        for piece in _PIECE.findall(answer(question, request.passages)):
            yield Say(piece)
            await asyncio.sleep(0)
        yield Usage(0, 0, 0)
        yield Finish("stop")

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""


def answer(question: str, passages: Sequence[str] | None) -> str:
    """Return what to say: the best sentences, or that nothing was found.

    If `passages` is None, nothing was searched. Then say that no language model is configured.
    """
    if passages is None:
        return _NO_MODEL[is_chinese(question)]
    return best_sentences(question, passages) or _NOTHING_FOUND[is_chinese(question)]


def best_sentences(question: str, passages: Sequence[str], most: int = 2) -> str:
    """Return at most `most` sentences: those that share the most informative words with the question.

    The score is BM25 with each sentence as a document, without a length penalty (long sentences are as good as short
    ones), and with stop words at a tenth of their weight.
    """
    # Two documents may contain the same sentence; say it once.
    where: dict[str, int] = {}
    for place, passage in enumerate(passages):
        for part in sentences(passage):
            where.setdefault(part.strip(), place)
    parts = [(place, part) for part, place in where.items() if part]
    own = [(place, part) for place, part in parts if is_chinese(part) == is_chinese(question)]
    parts = own or parts  # prefer passages in the caller's language
    counts = [Counter(words(part)) for _, part in parts]
    found_in = Counter(unit for count in counts for unit in count)
    asked = set(words(focus(question)))
    scores = [
        sum(
            log(1 + (len(parts) - found_in[unit] + 0.5) / (found_in[unit] + 0.5))
            * (0.1 if is_stop_word(unit) else 1.0)
            * count[unit]
            * (1 + _SATURATION)
            / (count[unit] + _SATURATION)
            for unit in asked
            if unit in count
        )
        for count in counts
    ]
    best = sorted(range(len(parts)), key=lambda at: -scores[at])[:most]
    chosen = [at for at in best if scores[at] > _WORTH_SAYING * scores[best[0]]]
    if len({parts[at][0] for at in chosen}) == 1:
        chosen.sort()  # sentences of one passage keep their order; otherwise the best comes first
    return ("" if is_chinese(question) else " ").join(parts[at][1].strip() for at in chosen)


def _hangup_tool(tools: object) -> str | None:
    """Return the name of the offered tool that ends the call. It is found by its name or its description."""
    for tool in tools if isinstance(tools, Sequence) else ():
        function = tool.get("function") if isinstance(tool, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(function, Mapping) and isinstance(name, str):
            about = str(function.get("description", "")).lower()
            if _HANGUP_NAME.search(name) or "end the phone call" in about or "挂断" in about:
                return name
    return None
