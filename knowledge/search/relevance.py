"""How well passages speak to a question: BM25 of the passage, its best sentence, and the likeness of the vectors.

Pure numbers, and the same for every engine: an engine finds who holds the rare words or is near in meaning, and this
orders them. The constants were tuned on one half of XQuAD (benchmarks/README.md tells the other half).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log1p, sqrt

import numpy as np
from numpy.typing import NDArray

from knowledge.passages.terms import END, Codes, joined

SATURATION = 1.2
_LENGTH_WEIGHT = 0.6
_SENTENCE_LENGTH_WEIGHT = 0.2
_USUAL_SENTENCE = 24.0
_SENTENCE = 0.5
"""What the best sentence counts beside its passage."""
_LEAST_RARITY = 0.2

Scores = NDArray[np.float64]
"""One a passage, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question's units and how much each one says: its own weight by its rarity in the store."""

    weights: Mapping[int, float]
    """By the unit's number; those of words that only look alike stand among them."""
    perfect: float
    """The weight of all that was asked, found or not."""
    chinese: bool
    passages: int
    """Of the store that is asked."""


def rarity(passages: int, holding: int) -> float:
    """The inverse document frequency, as BM25 has it, but never nothing: in a small store most may hold a word."""
    return max(log1p((passages - holding + 0.5) / (holding + 0.5)), _LEAST_RARITY)


def relevance(
    asked: Query,
    passages: Sequence[Codes],
    usual_length: float,
    likeness: NDArray[np.float32] | None = None,
    counts: float = 0.0,
) -> Scores:
    """The score of each passage. `likeness` is 0 to 1 a passage, and `counts` what full likeness adds."""
    if not passages or asked.perfect <= 0:
        return np.zeros(len(passages))
    raw = _words_say(asked, passages, usual_length) if asked.weights else np.zeros(len(passages))
    if likeness is None:
        return _calibrated(raw, asked, 0.0)
    return _calibrated(raw + counts * likeness, asked, counts)


def _words_say(asked: Query, passages: Sequence[Codes], usual_length: float) -> Scores:
    """What the passages hold of all that was asked, and their best sentences beside them."""
    numbers = np.array(sorted(asked.weights), dtype=np.uint32)
    weights = np.array([asked.weights[number] for number in numbers.tolist()])
    every = joined(passages)
    own = np.repeat(np.arange(len(passages)), [len(codes) for codes in passages])
    ends = every == END
    sentence = np.cumsum(ends) - ends
    which = np.minimum(np.searchsorted(numbers, every), len(numbers) - 1)
    hits = numbers[which] == every
    lengths = _lengths(own[~ends], len(passages)) / usual_length
    scores = _bm25(own[hits], which[hits], weights, lengths, _LENGTH_WEIGHT)
    if len(sentence):
        count = int(sentence[-1]) + 1
        lengths = _lengths(sentence[~ends], count) / _USUAL_SENTENCE
        best = np.zeros(len(passages))
        owner = np.zeros(count, dtype=np.int64)
        owner[sentence] = own
        np.maximum.at(best, owner, _bm25(sentence[hits], which[hits], weights, lengths, _SENTENCE_LENGTH_WEIGHT))
        scores = scores + _SENTENCE * best
    return scores / asked.perfect


def _lengths(places: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    return np.bincount(places, minlength=count).astype(np.float64)


def _bm25(
    places: NDArray[np.int64],
    which: NDArray[np.int64],
    weights: NDArray[np.float64],
    lengths: NDArray[np.float64],
    length_weight: float,
) -> NDArray[np.float64]:
    """The weights of what each place holds; a unit said again counts less each time."""
    shape = (len(lengths), len(weights))
    counts = np.bincount(places * len(weights) + which, minlength=shape[0] * shape[1]).reshape(shape)
    penalty = SATURATION * (1 - length_weight + length_weight * lengths)[:, None]
    scores: NDArray[np.float64] = (counts / (counts + penalty)) @ weights
    return scores


# How steep is a logistic regression of "about what was asked" on the raw score beside what chance reaches, in stores of
# 5 to 12,000 passages, half of the questions asked where their topic was missing. What chance reaches was then set by
# the price that the threshold has. A Chinese question has more units, of which fewer are in the passage.
_STEEP, _BY_CHANCE = 9.0, 0.92
_CHINESE_STEEP, _CHINESE_BY_CHANCE = 6.5, 0.63
_LEAST_ASKED = 6.0
"""The weight of two or three words: with less, one word that is found by chance is most of what was asked."""
_MANY, _BY_SIZE = 300, 0.15
"""Passages among which chance finds all that it finds; among fewer it is less, by this power."""
UNKNOWN = 0.31
"""How much of full likeness any passage has of whatever is asked, so that it speaks neither for nor against it; tuned
with MiniLM."""


def _calibrated(raw: NDArray[np.float64], asked: Query, counts: float) -> Scores:
    steep = _CHINESE_STEEP if asked.chinese else _STEEP
    middle = _by_chance(asked) + UNKNOWN * counts
    nothing = 1 / (1 + exp(steep))
    scores: Scores = (1 / (1 + np.exp(-steep * (raw / middle - 1))) - nothing) / (1 - nothing)
    return np.clip(scores, 0.0, 1.0)


def _by_chance(asked: Query) -> float:
    """The share of what was asked that speaks as much for a passage as against it.

    Of many words chance finds a smaller share than of a few, by the square root; and less in a small store.
    """
    amount = max(asked.perfect / rarity(asked.passages, 0), _LEAST_ASKED)
    share = _CHINESE_BY_CHANCE if asked.chinese else _BY_CHANCE
    return share / sqrt(amount) * float(min(asked.passages / _MANY, 1.0) ** _BY_SIZE)
