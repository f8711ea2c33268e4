"""A question → what it asks of a store: its units with their weights; for unknown words those that look alike."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rapidfuzz.distance import DamerauLevenshtein

from dialgraph.language.focus import focus
from dialgraph.language.weights import tells, weight
from dialgraph.language.words import HAN_CHARACTER, is_chinese, words
from knowledge.passages.terms import code
from knowledge.search.relevance import Query, rarity

MOST_UNITS = 200
"""Of a question: more is no question."""
_SHORTEST_UNKNOWN = 4
_UNKNOWN_LOOKED_UP = 4
ALIKE_PREFIX = 3
"""Characters that a word shares with those it may stand for."""
ALIKE_MOST = 4_000
"""Words of one prefix that are looked at."""
_ALIKE = 0.66
_MOST_ALIKE = 3
_ROWS_READ, _MOST_ROWS_READ = 1_200, 60_000
_MOST_UNKNOWN = 15.0
"""The weight of unknown words that counts against a passage: six Latin words, or a dozen Han characters."""
_ASIDE = 0.15
"""What a word counts that a caller says around his question."""
_UNKNOWN_CODE = 3.0
"""How much more a code counts that the store lacks, where it has others of its kind: E4 does not help with E5."""
_CODE = re.compile(r"([a-z]{1,3})\d{1,4}")
_DIGITS = "#"
"""Behind a prefix: only words that go on with a digit."""
_TRUST = 0.8
"""What a word that only looks alike counts, beside its likeness."""

Holding = Mapping[int, int]
"""How many passages hold a unit, by its number; a unit that is nowhere is not in it."""


class Spelling(NamedTuple):
    """A word of the store, and how many passages hold it."""

    word: str
    code: int
    passages: int


def units_of(question: str) -> dict[int, str]:
    """The different units by number: those of what is asked, and the last ones of what is said around it."""
    part = focus(question)
    asked = list(dict.fromkeys(words(part)))[-MOST_UNITS:]
    around = [] if part == question else [unit for unit in dict.fromkeys(words(question)) if unit not in asked]
    room = MOST_UNITS - len(asked)
    return {code(unit): unit for unit in [*around[max(len(around) - room, 0) :], *asked]}


def unknown_prefixes(units: Mapping[int, str], held: Holding) -> list[str]:
    """The beginnings of words that the store does not know, and that may be spelled nearly like one that it does."""
    codes = [_codes_like(unit) for number, unit in units.items() if number not in held][:_UNKNOWN_LOOKED_UP]
    return list(dict.fromkeys([*(unit[:ALIKE_PREFIX] for unit in _unknown(units, held)), *filter(None, codes)]))


def words_from(prefix: str) -> tuple[str, str]:
    """The first word that begins so, and what stands behind the last one, in the order of characters."""
    if prefix.endswith(_DIGITS):
        return prefix[:-1] + "0", prefix[:-1] + chr(ord("9") + 1)
    return prefix, prefix + "\U0010ffff"


def _codes_like(unit: str) -> str:
    """The beginning of other codes of a code's kind; empty for a word."""
    code = _CODE.fullmatch(unit)
    return code.group(1) + _DIGITS if code else ""


def ask(
    question: str,
    passages: int,
    units: Mapping[int, str],
    held: Mapping[int, int],
    alike: Mapping[str, Sequence[Spelling]],
) -> tuple[Query, Holding]:
    """What the question asks, and how many passages hold each unit of it.

    `alike` gives the store's words by their prefix. A recogniser writes names as it hears them: a word that the store
    does not know stands for those that are spelled nearly so.
    """
    holding = dict(held)
    part = focus(question)
    asking = units.keys() if part == question else {code(unit) for unit in words(part)}
    weights = {
        number: weight(unit) * rarity(passages, held.get(number, 0)) * (1 if number in asking else _ASIDE)
        for number, unit in units.items()
    }
    # That a store lacks "please" or "how many" says nothing about what it knows.
    perfect = sum(value for number, value in weights.items() if number in held and number in asking)
    # One who tells a story before he asks must not pay for each word of it.
    unknown = sum(
        value * (_UNKNOWN_CODE if alike.get(_codes_like(units[number])) else 1)
        for number, value in weights.items()
        if number not in held and number in asking and tells(units[number])
    )
    perfect += min(unknown, _MOST_UNKNOWN * rarity(passages, 0))
    for unit in _unknown(units, held):
        near = [
            (DamerauLevenshtein.normalized_similarity(unit, one.word), one)
            for one in alike.get(unit[:ALIKE_PREFIX], ())
        ]
        near = sorted((pair for pair in near if pair[0] >= _ALIKE), key=lambda pair: -pair[0])
        for likeness, one in near[:_MOST_ALIKE]:
            value = weight(unit) * rarity(passages, one.passages) * likeness * _TRUST
            if value > weights.get(one.code, 0.0):
                weights[one.code] = value
                holding[one.code] = one.passages
    known = {number: value for number, value in weights.items() if number in holding}
    return Query(known, perfect, is_chinese(question), passages), holding


def _unknown(units: Mapping[int, str], held: Holding) -> list[str]:
    return [
        unit
        for number, unit in units.items()
        if number not in held
        and len(unit) >= _SHORTEST_UNKNOWN
        and not unit.isdigit()
        and not _CODE.fullmatch(unit)
        and not HAN_CHARACTER.match(unit)
    ][:_UNKNOWN_LOOKED_UP]


def telling(asked: Query, held: Holding, passages: int, share: float) -> list[int]:
    """The units to look for in a store of so many passages, the most telling first; one at least.

    Together they stand in 1,200 passages at most, in this share of a large store, or in 60,000 of a very large one.
    """
    most_rows = max(_ROWS_READ, min(int(passages * share), _MOST_ROWS_READ))
    chosen: list[int] = []
    rows = 0
    for number in sorted(asked.weights, key=lambda number: -asked.weights[number]):
        rows += held[number]
        if chosen and rows > most_rows:
            break
        chosen.append(number)
    return chosen
