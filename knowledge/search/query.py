"""A question → its units with their weights. An unknown word stands for similar words of the store."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dialgraph.language.focus import focus
from dialgraph.language.weights import tells, weight
from dialgraph.language.words import HAN_CHARACTER, is_chinese, words
from knowledge.passages.terms import code
from knowledge.search.relevance import Query, rarity

MOST_UNITS = 200
"""The most units of a question. A text with more is hardly a question."""
_SHORTEST_UNKNOWN = 4
_UNKNOWN_LOOKED_UP = 4
ALIKE_PREFIX = 3
"""How many first characters a word must share with the words that it may stand for."""
ALIKE_MOST = 4_000
"""The most words with one prefix that are compared."""
_ALIKE = 0.66
_MOST_ALIKE = 3
_ROWS_READ, _MOST_ROWS_READ = 1_200, 60_000
_MOST_UNKNOWN = 15.0
"""The most weight of unknown words that counts against a passage: six Latin words or a dozen Han characters."""
_ASIDE = 0.15
"""The factor for words that a caller says around the question."""
_UNKNOWN_CODE = 3.0
"""The factor for a code that the store lacks while it has others of the kind: E4 does not help with E5."""
_CODE = re.compile(r"([a-z]{1,3})\d{1,4}")
_DIGITS = "#"
"""After a prefix: only words that continue with a digit."""
_TRUST = 0.8
"""The factor for a word that is only spelled alike, in addition to its likeness."""

Holding = Mapping[int, int]
"""How many passages hold a unit, by its number. Units that no passage holds are left out."""


class Spelling(NamedTuple):
    """A word of the store, its number, and how many passages hold it."""

    word: str
    code: int
    passages: int


def units_of(question: str) -> dict[int, str]:
    """Return the distinct units by number: those of what is asked, and the last ones of what is said around it."""
    part = focus(question)
    asked = list(dict.fromkeys(words(part)))[-MOST_UNITS:]
    around = [] if part == question else [unit for unit in dict.fromkeys(words(question)) if unit not in asked]
    room = MOST_UNITS - len(asked)
    return {code(unit): unit for unit in [*around[max(len(around) - room, 0) :], *asked]}


def unknown_prefixes(units: Mapping[int, str], held: Holding) -> list[str]:
    """Return the prefixes to look up for words that the store lacks, to find words with a similar spelling."""
    codes = [_codes_like(unit) for number, unit in units.items() if number not in held][:_UNKNOWN_LOOKED_UP]
    return list(dict.fromkeys([*(unit[:ALIKE_PREFIX] for unit in _unknown(units, held)), *filter(None, codes)]))


def words_from(prefix: str) -> tuple[str, str]:
    """Return the first word with this prefix and the end after the last one, in the order of characters."""
    if prefix.endswith(_DIGITS):
        return prefix[:-1] + "0", prefix[:-1] + chr(ord("9") + 1)
    return prefix, prefix + "\U0010ffff"


def _codes_like(unit: str) -> str:
    """Return the prefix of other codes of the same kind; empty if the unit is not a code."""
    code = _CODE.fullmatch(unit)
    return code.group(1) + _DIGITS if code else ""


def ask(
    question: str,
    passages: int,
    units: Mapping[int, str],
    held: Mapping[int, int],
    alike: Mapping[str, Sequence[Spelling]],
) -> tuple[Query, Holding]:
    """Return the query of the question, and how many passages hold each of its units.

    `alike` gives the store's words by their prefix. A transcriber writes names by their sound, so a word that the store
    lacks stands for words with a similar spelling.
    """
    holding = dict(held)
    part = focus(question)
    asking = units.keys() if part == question else {code(unit) for unit in words(part)}
    weights = {
        number: weight(unit) * rarity(passages, held.get(number, 0)) * (1 if number in asking else _ASIDE)
        for number, unit in units.items()
    }
    # If a store lacks "please" or "how many", this says nothing about what it knows.
    perfect = sum(value for number, value in weights.items() if number in held and number in asking)
    # A caller may tell a long story before the question. Its words must not lower the score without limit.
    unknown = sum(
        value * (_UNKNOWN_CODE if alike.get(_codes_like(units[number])) else 1)
        for number, value in weights.items()
        if number not in held and number in asking and tells(units[number])
    )
    perfect += min(unknown, _MOST_UNKNOWN * rarity(passages, 0))
    unknown_units = _unknown(units, held)
    if unknown_units:
        from rapidfuzz.distance import DamerauLevenshtein  # 3 MB, only for what a store lacks
    for unit in unknown_units:
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
    """Return the units to look up in a store with this many passages, heaviest first; at least one.

    All of them together are in at most 1,200 passages, in this share of a large store, or in 60,000 passages of a very
    large one.
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
