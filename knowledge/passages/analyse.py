"""Pieces → what search needs to know of them. This is only computing, so a child process can do it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from knowledge.document import Piece
from knowledge.embedders.embed import Vectors, hashed
from knowledge.passages.terms import Codes, analysed

BATCH = 256
"""How many pieces are analysed, embedded and written together. This locks the database for tens of milliseconds."""


class AnalysedPiece(NamedTuple):
    """A piece with its units, and with its vector if the built-in embedder is used."""

    piece: Piece
    codes: Codes
    spelled: tuple[str, ...]
    """Its Latin words."""
    hashed: Vectors | None


def embedded_text(piece: Piece) -> str:
    """Return the text that a piece is found by. It includes the headings, because the piece is about them too."""
    return f"{piece.heading}\n{piece.text}" if piece.heading else piece.text


def analysed_pieces(pieces: Sequence[Piece], hashing: bool) -> Iterator[list[AnalysedPiece]]:
    """Yield the analysed pieces, in batches."""
    for first in range(0, len(pieces), BATCH):
        batch = pieces[first : first + BATCH]
        found = [analysed(embedded_text(piece)) for piece in batch]
        vectors: Sequence[Vectors | None] = (
            list(hashed([one.units for one in found])) if hashing else [None] * len(batch)
        )
        yield [
            AnalysedPiece(piece, one.codes, one.spelled, vector)
            for piece, one, vector in zip(batch, found, vectors, strict=True)
        ]
