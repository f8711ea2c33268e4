"""What is written for passages, computed in a thread before the database is locked."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from knowledge.document import Piece
from knowledge.embedders.embed import Vectors
from knowledge.passages.terms import END, Codes, code, joined, tokens


class Prepared(NamedTuple):
    """A piece with everything that is written for it."""

    document: int
    """The id of its document."""
    position: int
    piece: Piece
    digest: bytes
    """A hash of the embedded text, 16 bytes."""
    codes: Codes
    spelled: Sequence[str]
    vector: Vectors


class WorkedOut(NamedTuple):
    """The rows of a batch."""

    tokens: list[str]
    """The different units of each passage, as a full-text index reads them."""
    terms: list[tuple[int, int, str | None, int]]
    """Store, unit, its spelling, and how many of the passages hold it; sorted by unit."""
    grown: list[tuple[Any, ...]]
    """For each document: how many passages and units it gains, where it ends now, and its id."""


def worked_out(store: int, batch: Sequence[Prepared]) -> WorkedOut:
    """Return the rows of these passages."""
    unique = [np.unique(prepared.codes[prepared.codes != END]) for prepared in batch]
    spelled = {code(word): word for prepared in batch for word in prepared.spelled}
    numbers, counts = np.unique(joined(unique), return_counts=True)
    terms = [
        (store, number, spelled.get(number), count)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    ]
    grown: dict[int, list[int]] = {}
    for prepared in batch:
        sums = grown.setdefault(prepared.document, [0, 0, 0])
        sums[0] += 1
        sums[1] += int(np.count_nonzero(prepared.codes))
        sums[2] = max(sums[2], prepared.piece.end)
    return WorkedOut(
        [tokens(store, found.tolist()) for found in unique], terms, [(*sums, number) for number, sums in grown.items()]
    )


def packed(vector: Vectors) -> bytes:
    """Return the vector as it is stored. Half precision changes a similarity by a thousandth."""
    return vector.astype(np.float16).tobytes()
