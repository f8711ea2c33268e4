"""How well passages answer a question: BM25 of the passage and of its best sentence, and the likeness of the vectors.

Only arithmetic, and the same for every engine: an engine finds the passages that hold rare words or are near in
meaning, and this module orders them. The constants were tuned on one half of XQuAD; benchmarks/README.md reports the
other half.
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
"""The weight of the best sentence, where its passage has 1."""
_LEAST_RARITY = 0.2

Scores = NDArray[np.float64]
"""One score for each passage, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Query:
    """The units of a question with their weights: the own weight of a unit times its rarity in the store."""

    weights: Mapping[int, float]
    """By the unit's number, including words that are only spelled alike."""
    perfect: float
    """The weight of everything that was asked, found or not."""
    chinese: bool
    passages: int
    """How many passages the store has."""


def rarity(passages: int, holding: int) -> float:
    """Return the inverse document frequency of BM25, but never zero: in a small store most passages may hold a word."""
    return max(log1p((passages - holding + 0.5) / (holding + 0.5)), _LEAST_RARITY)


def relevance(
    asked: Query,
    passages: Sequence[Codes],
    usual_length: float,
    likeness: NDArray[np.float32] | None = None,
    counts: float = 0.0,
) -> Scores:
    """Return the score of each passage.

    `likeness` is 0 to 1 for each passage; `counts` is how much a likeness of 1 adds.
    """
    if not passages or asked.perfect <= 0:
        return np.zeros(len(passages))
    raw = _words_say(asked, passages, usual_length) if asked.weights else np.zeros(len(passages))
    if likeness is None:
        return _calibrated(raw, asked, 0.0)
    return _calibrated(raw + counts * likeness, asked, counts)


def _words_say(asked: Query, passages: Sequence[Codes], usual_length: float) -> Scores:
    """Return how much of the query each passage and its best sentence hold."""
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
    """Return the weights that each place holds. A unit counts less with each repetition."""
    shape = (len(lengths), len(weights))
    counts = np.bincount(places * len(weights) + which, minlength=shape[0] * shape[1]).reshape(shape)
    penalty = SATURATION * (1 - length_weight + length_weight * lengths)[:, None]
    scores: NDArray[np.float64] = (counts / (counts + penalty)) @ weights
    return scores


# The steepness comes from a logistic regression of "about what was asked" on the raw score, relative to the score that
# chance reaches. The stores had 5 to 12,000 passages, and half of the questions went to stores without their topic. The
# score of chance was then set by what the threshold costs. A Chinese question has more units, and the passage holds a
# smaller share of them.
_STEEP, _BY_CHANCE = 9.0, 0.92
_CHINESE_STEEP, _CHINESE_BY_CHANCE = 6.5, 0.63
_LEAST_ASKED = 6.0
"""The weight of two or three words. With less, one word that is found by chance is most of the question."""
_MANY, _BY_SIZE = 300, 0.15
"""With this many passages chance has its full effect. With fewer it finds less, by this power."""
UNKNOWN = 0.31
"""The likeness of any passage and any question. It counts neither for nor against the passage. Tuned with MiniLM."""


def _calibrated(raw: NDArray[np.float64], asked: Query, counts: float) -> Scores:
    steep = _CHINESE_STEEP if asked.chinese else _STEEP
    middle = _by_chance(asked) + UNKNOWN * counts
    nothing = 1 / (1 + exp(steep))
    scores: Scores = (1 / (1 + np.exp(-steep * (raw / middle - 1))) - nothing) / (1 - nothing)
    return np.clip(scores, 0.0, 1.0)


def _by_chance(asked: Query) -> float:
    """Return the share of the query that counts neither for nor against a passage.

    Chance finds a smaller share of many words than of few, by the square root, and less in a small store.
    """
    amount = max(asked.perfect / rarity(asked.passages, 0), _LEAST_ASKED)
    share = _CHINESE_BY_CHANCE if asked.chinese else _BY_CHANCE
    return share / sqrt(amount) * float(min(asked.passages / _MANY, 1.0) ** _BY_SIZE)
