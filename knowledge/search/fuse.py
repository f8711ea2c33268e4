"""Two orders of candidates → one, by reciprocal rank; and what is left of the scored ones for the caller."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dialgraph.passages import Passage
from knowledge.embedders.rerank import Reranker
from knowledge.search.vectors import Ids

CANDIDATES = 64
"""Passages that are scored."""
_WORTH_SCORING = 0.4
"""Of the most weight: with less, a passage is scored only if few have more."""
MIN_SCORE = 0.06
"""Where the best passage is below this, nothing speaks to the question; benchmarks/README.md has its price."""
_BESIDE_THE_BEST = 0.02
"""Of the threshold: what the passages beside a good one must reach."""
_RANKS = 10
"""Of reciprocal rank fusion: small, because the first of either order is likelier right than its fiftieth."""


def summed(found: Sequence[tuple[float, Ids]]) -> tuple[Ids, NDArray[np.float64]]:
    """The different ids of all these lists, in their order, and the sum of the weights of the lists that hold each."""
    weights = np.repeat([weight for weight, _ in found], [len(ids) for _, ids in found])
    every, at = np.unique(np.concatenate([ids for _, ids in found]), return_inverse=True)
    return every, np.bincount(at, weights, minlength=len(every)).astype(np.float64)


def heaviest(ids: Ids, weights: NDArray[np.float64]) -> Ids:
    """The ids with the most weight first; more than will be scored, because some may be gone."""
    most = min(len(ids), 4 * CANDIDATES)
    if not most:
        return ids
    best = np.argpartition(-weights, most - 1)[:most]
    best = best[np.argsort(-weights[best], kind="stable")]
    worth = int(np.count_nonzero(weights[best] >= _WORTH_SCORING * weights[best[0]]))
    first: Ids = ids[best[: max(worth, CANDIDATES // 2)]]
    return first


def fused(by_words: Ids, near: Ids | None) -> list[int]:
    """The ids of both orders, by 1 / (10 + rank) added up."""
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
    """The passages that the caller gets: none if the best is below the threshold; reranked if somebody is there."""
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
