"""Finds the question in a caller's turn. People tell a story first, or give their reasons after it."""

import re
from functools import lru_cache

from dialgraph.language.sentences import sentences
from dialgraph.language.weights import tells
from dialgraph.language.words import is_chinese, words

_LONG, _LONG_CHINESE = 9, 50
"""A turn with at most this many content units is a question as a whole. A Chinese word is about three units."""
_ENOUGH, _ENOUGH_CHINESE = 1, 4
"""The least number of content units that is enough for a search."""
_ENOUGH_POINTING = 3
"""The same if "it" or "that" refers to something said before."""
_NO_MARKS, _NO_MARKS_CHINESE = 9, 120
"""The longest clause without a mark, in content units. A longer one is a recogniser's text, in which the question is
found by its words."""
_TAIL_CHINESE = 40
"""How many characters at the end of such a text are used. Nothing shows where a Chinese question begins."""
_CLAUSE = re.compile(r"(?:[^,;:，；：、—]|(?<=\d)[,:](?=\d))+[,;:，；：、—]*\s*")
_CHINESE_CLAUSE = re.compile(r"(?:[^,;:，；：、—\s]|(?<=\d)[,:](?=\d))+[,;:，；：、—\s]*")
_AUXILIARY = "is|are|was|do|does|did|can|could|should|shall|will|would|may|must|has|have"
_ASKING = (
    rf"(?:until |at |in |on |by |for )?(?:what|when|where|who|which|why|how)(?: [\w-]+){{0,3}}? (?:{_AUXILIARY})\b"
    rf"|(?:{_AUXILIARY}) (?:i|we|you|it|he|she|they|there|this|that|the|a|an|my|your|our|any|some|dogs|pets|children)\b"
    r"|what about\b|how about\b|whether\b"
)
_ASKS = re.compile(rf"\b(?:{_ASKING})", re.IGNORECASE)
_BEGINS_ASKING = re.compile(rf"(?:and |so |but |or |please |also |then |\W)*(?:{_ASKING})", re.IGNORECASE)
_ASKS_CHINESE = re.compile(
    r"[吗呢]|什么|多少|几|哪|怎么|如何|能不能|可不可以|有没有|是不是|能否|是否|谁|何时|多久|多远|多大"
)
_POINTS = re.compile(r"\b(?:it|they|them|that|this|those|these|one|ones)\b", re.IGNORECASE)
_LOOKED_AT = 8
"""How many clauses, and places where a question may begin, are checked, from the end."""


@lru_cache(maxsize=256)
def focus(text: str) -> str:
    """Return the question in the caller's own words. Return the whole text if it is short, or if in doubt."""
    chinese = is_chinese(text)
    if _telling(text) <= (_LONG_CHINESE if chinese else _LONG):
        return text
    parts = sentences(text)
    asking = [part for part in parts if "?" in part or "？" in part] or [part for part in parts if _asks(part, chinese)]
    part = "".join(asking)
    if _telling(part) < _enough(part, chinese):
        part = text
    return _question_of(part, chinese)


def _question_of(text: str, chinese: bool) -> str:
    """Return the last clauses that form a question by themselves."""
    if not chinese and _BEGINS_ASKING.match(text):
        return text
    if _telling(text) <= (_LONG_CHINESE if chinese else _LONG):
        return text
    clauses: list[str] = (_CHINESE_CLAUSE if chinese else _CLAUSE).findall(text)
    found, telling = "", 0
    for clause in reversed(clauses[-_LOOKED_AT:]):
        found, telling = clause + found, telling + _telling(clause)
        asks = _ASKS_CHINESE.search(found) if chinese else _BEGINS_ASKING.match(clause)
        if asks and telling >= _enough(found, chinese):
            break
    else:
        found = text
    if _telling(found) <= (_NO_MARKS_CHINESE if chinese else _NO_MARKS):
        return found
    return _last_of(found, chinese)


def _last_of(text: str, chinese: bool) -> str:
    """Return the last question of a long text without marks."""
    if chinese:
        return text[-_TAIL_CHINESE:] if _ASKS_CHINESE.search(text[-_TAIL_CHINESE:]) else text
    for begins in reversed([match.start() for match in _ASKS.finditer(text)][-_LOOKED_AT:]):
        part = text[begins:]
        if _telling(part) >= _enough(part, chinese):
            return part
    return text


def _enough(text: str, chinese: bool) -> int:
    if chinese:
        return _ENOUGH_CHINESE
    return _ENOUGH_POINTING if _POINTS.search(text) else _ENOUGH


def _asks(text: str, chinese: bool) -> bool:
    return bool((_ASKS_CHINESE if chinese else _ASKS).search(text))


def _telling(text: str) -> int:
    return sum(map(tells, dict.fromkeys(words(text))))
