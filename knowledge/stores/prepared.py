"""What is written of passages, worked out before the database is held: computing, for a thread."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from knowledge.document import Piece
from knowledge.embedders.embed import Vectors
from knowledge.passages.terms import END, Codes, code, joined, tokens


class Prepared(NamedTuple):
    """A piece with all that is written of it."""

    document: int
    """The id of its document."""
    position: int
    piece: Piece
    digest: bytes
    """16 bytes of the embedded text."""
    codes: Codes
    spelled: Sequence[str]
    vector: Vectors


class WorkedOut(NamedTuple):
    """Rows of a batch."""

    tokens: list[str]
    """Each passage's different units, as a full-text index takes them."""
    terms: list[tuple[int, int, str | None, int]]
    """Store, unit, its spelling, and in how many of the passages it stands; in the order of units."""
    grown: list[tuple[Any, ...]]
    """By how many passages and units each document grows, where it ends now, and its id."""


def worked_out(store: int, batch: Sequence[Prepared]) -> WorkedOut:
    """The rows of these passages."""
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
    """A vector as it is kept: half precision costs a thousandth of a similarity."""
    return vector.astype(np.float16).tobytes()
