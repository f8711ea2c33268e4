"""A caller's turn → the part of it that asks. People tell a story first, or give their reasons after."""

import re

from language.sentences import sentences
from language.weights import tells
from language.words import is_chinese, words

_LONG, _LONG_CHINESE = 9, 40
"""Telling units of a turn that is looked at; fewer are a question as a whole. A Chinese word is about three."""
_ENOUGH, _ENOUGH_CHINESE = 2, 4
"""Telling units that can be searched for."""
_TAIL, _TAIL_CHINESE = 80, 24
"""Characters that are taken where nothing tells where a question begins."""
_CLAUSE = re.compile(r"[^,;:，；：、—]+[,;:，；：、—]*\s*")
_CHINESE_CLAUSE = re.compile(r"[^,;:，；：、—\s]+[,;:，；：、—\s]*")
_BEGINS = re.compile(
    r"\b(what|when|where|who|which|why|how|whether"
    r"|(can|could|may|do|does|did|is|are|will|would) (i|we|you|it|there|the))\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    rf"[吗呢]|什么|多少|几点|哪|怎么|如何|能不能|可不可以|有没有|是不是|{_BEGINS.pattern}", re.IGNORECASE
)


def focus(text: str) -> str:
    """What is asked, in the caller's own words; of a short turn all of it."""
    chinese = is_chinese(text)
    long, enough = (_LONG_CHINESE, _ENOUGH_CHINESE) if chinese else (_LONG, _ENOUGH)
    if _telling(text) <= long:
        return text
    parts = sentences(text)
    asking = [part for part in parts if "?" in part or "？" in part] or [part for part in parts if _ASKS.search(part)]
    text = "".join(asking or parts)
    if _telling(text) <= long:
        return text
    clauses: list[str] = (_CHINESE_CLAUSE if chinese else _CLAUSE).findall(text) or [text]
    found = clauses.pop()
    while clauses and _telling(found) < enough and _telling(clauses[-1]) <= long // 2:
        found = clauses.pop() + found
    return found if _telling(found) <= long else _end(found, enough, _TAIL_CHINESE if chinese else _TAIL)


def _end(text: str, enough: int, tail: int) -> str:
    """The last question of a recogniser's text that has no marks."""
    for begins in reversed(list(_BEGINS.finditer(text))):
        if _telling(text[begins.start() :]) >= enough:
            return text[begins.start() :]
    return text[-tail:]


def _telling(text: str) -> int:
    return sum(map(tells, dict.fromkeys(words(text))))
