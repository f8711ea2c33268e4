"""A question → what it asks of a store: its units with their weights; for unknown words those that look alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rapidfuzz.distance import DamerauLevenshtein

from knowledge.relevance import Asked, rarity
from knowledge.terms import code
from language.weights import tells, weight
from language.words import HAN_CHARACTER, is_chinese, words

MOST_UNITS = 200
"""Of a question: more is no question, and what comes last was said last."""
_SHORTEST_UNKNOWN = 4
_UNKNOWN_LOOKED_UP = 4
ALIKE_PREFIX = 3
"""Characters that a word shares with those it may stand for."""
_ALIKE = 0.66
_MOST_ALIKE = 3
_TRUST = 0.8
"""What a word that only looks alike counts, beside its likeness."""

Holding = Mapping[int, int]
"""How many passages hold a unit, by its number; a unit that is nowhere is not in it."""


class Spelling(NamedTuple):
    """A word of the store, and how many passages hold it."""

    word: str
    code: int
    passages: int


def ask(
    question: str,
    passages: int,
    holding: Callable[[Sequence[int]], Holding],
    alike: Callable[[str], Sequence[Spelling]],
) -> tuple[Asked, Holding]:
    """What the question asks, and how many passages hold each unit of it.

    `holding` looks units up; `alike` gives the store's words that begin with a prefix. A recogniser writes names as it
    hears them: a word that the store does not know stands for those that are spelled nearly so.
    """
    units = list(dict.fromkeys(words(question)))[-MOST_UNITS:]
    numbers = {code(unit): unit for unit in units}
    held = dict(holding(list(numbers)))
    weights = {number: weight(unit) * rarity(passages, held.get(number, 0)) for number, unit in numbers.items()}
    # That a store lacks "please" or "how many" says nothing about what it knows.
    perfect = sum(value for number, value in weights.items() if number in held or tells(numbers[number]))
    unknown = [
        unit
        for number, unit in numbers.items()
        if number not in held
        and len(unit) >= _SHORTEST_UNKNOWN
        and not unit.isdigit()
        and not HAN_CHARACTER.match(unit)
    ]
    for unit in unknown[:_UNKNOWN_LOOKED_UP]:
        near = ((DamerauLevenshtein.normalized_similarity(unit, one.word), one) for one in alike(unit[:ALIKE_PREFIX]))
        for likeness, one in sorted((pair for pair in near if pair[0] >= _ALIKE), key=lambda pair: -pair[0])[
            :_MOST_ALIKE
        ]:
            value = weight(unit) * rarity(passages, one.passages) * likeness * _TRUST
            if value > weights.get(one.code, 0.0):
                weights[one.code] = value
                held[one.code] = one.passages
    return Asked(
        {number: value for number, value in weights.items() if number in held}, perfect, is_chinese(question)
    ), held


def telling(asked: Asked, held: Holding, most_rows: int) -> list[int]:
    """The units to look for, the most telling first, as long as they stand in no more rows than that; one at least."""
    chosen: list[int] = []
    rows = 0
    for number in sorted(asked.weights, key=lambda number: -asked.weights[number]):
        rows += held[number]
        if chosen and rows > most_rows:
            break
        chosen.append(number)
    return chosen
