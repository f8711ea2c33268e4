"""Pieces → what search needs to know of them. This is only computing, so a child process can do it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import NamedTuple, cast

from knowledge.document import Piece
from knowledge.embedders.embed import Vectors
from knowledge.passages.terms import Codes, analysed

BATCH = 256
"""How many pieces are analysed, embedded and written together. This locks the database for tens of milliseconds."""


UnitVectors = Callable[[Sequence[Counter[str]]], Vectors]
"""Units of texts, counted → vectors of shape (texts, dimension)."""


class AnalysedPiece(NamedTuple):
    """A piece with its units, and with its vector if the embedder makes vectors from units."""

    piece: Piece
    codes: Codes
    spelled: tuple[str, ...]
    """Its Latin words."""
    vector: Vectors | None


def embedded_text(piece: Piece) -> str:
    """Return the text that a piece is found by. It includes the headings, because the piece is about them too."""
    return f"{piece.heading}\n{piece.text}" if piece.heading else piece.text


def unit_vectors(from_units: str) -> UnitVectors | None:
    """Return the function that an embedder's `from_units` names."""
    if not from_units:
        return None
    module, _, name = from_units.partition(":")
    return cast(UnitVectors, getattr(import_module(module), name))


def analysed_pieces(pieces: Sequence[Piece], vectors_of: UnitVectors | None) -> Iterator[list[AnalysedPiece]]:
    """Yield the analysed pieces, in batches."""
    for first in range(0, len(pieces), BATCH):
        batch = pieces[first : first + BATCH]
        found = [analysed(embedded_text(piece)) for piece in batch]
        vectors: Sequence[Vectors | None] = (
            list(vectors_of([one.units for one in found])) if vectors_of else [None] * len(batch)
        )
        yield [
            AnalysedPiece(piece, one.codes, one.spelled, vector)
            for piece, one, vector in zip(batch, found, vectors, strict=True)
        ]
