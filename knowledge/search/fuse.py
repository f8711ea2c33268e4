"""Merges two rankings of candidates by reciprocal rank, and chooses the scored passages that the caller gets."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dialgraph.passages import Passage
from knowledge.embedders.rerank import Reranker
from knowledge.search.vectors import Ids

CANDIDATES = 64
"""How many passages are scored."""
_WORTH_SCORING = 0.4
"""A share of the highest weight. A passage with less is scored only if few passages have more."""
MIN_SCORE = 0.06
"""If the best passage scores less, nothing answers the question. benchmarks/README.md shows what this costs."""
_BESIDE_THE_BEST = 0.02
"""A share of the threshold. If the best passage reaches the threshold, the others must reach only this."""
_RANKS = 10
"""For reciprocal rank fusion. It is small, because the first of a ranking is likelier to be right than the fiftieth."""


def summed(found: Sequence[tuple[float, Ids]]) -> tuple[Ids, NDArray[np.float64]]:
    """Return the distinct ids of all lists, sorted, and for each id the total weight of the lists that hold it."""
    weights = np.repeat([weight for weight, _ in found], [len(ids) for _, ids in found])
    every, at = np.unique(np.concatenate([ids for _, ids in found]), return_inverse=True)
    return every, np.bincount(at, weights, minlength=len(every)).astype(np.float64)


def heaviest(ids: Ids, weights: NDArray[np.float64]) -> Ids:
    """Return the ids with the most weight first. More than will be scored, because some passages may be deleted."""
    most = min(len(ids), 4 * CANDIDATES)
    if not most:
        return ids
    best = np.argpartition(-weights, most - 1)[:most]
    best = best[np.argsort(-weights[best], kind="stable")]
    worth = int(np.count_nonzero(weights[best] >= _WORTH_SCORING * weights[best[0]]))
    first: Ids = ids[best[: max(worth, CANDIDATES // 2)]]
    return first


def fused(by_words: Ids, near: Ids | None) -> list[int]:
    """Return the ids of both rankings, ordered by the sum of 1 / (10 + rank)."""
    if near is None or not len(near):
        alone: list[int] = by_words.tolist()
        return alone
    values: dict[int, float] = {}
    for order in (by_words, near):
        for rank, number in enumerate(order.tolist()):
            values[number] = values.get(number, 0.0) + 1 / (_RANKS + rank)
    return sorted(values, key=lambda number: -values[number])


async def best_of(
    passages: Sequence[Passage], question: str, top_k: int, min_score: float | None, reranker: Reranker | None
) -> list[Passage]:
    """Return the passages that the caller gets, reranked if there is a reranker.

    There are none if the best one is below the threshold.
    """
    threshold = MIN_SCORE if min_score is None else min_score
    if not passages or passages[0].score < threshold:
        return []
    kept = [passage for passage in passages if passage.score >= threshold * _BESIDE_THE_BEST]
    if reranker is not None and kept:
        scores = await reranker.scores(question, [passage.text for passage in kept])
        if scores is not None:
            kept = [dataclasses.replace(passage, score=score) for passage, score in zip(kept, scores, strict=True)]
            kept.sort(key=lambda passage: -passage.score)
    return kept[:top_k]
