"""Pieces → what is written of them: their units, their spelled words and their vectors."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable

import numpy as np

from knowledge.embed import Embedder, EmbedError, HashingEmbedder, hashed
from knowledge.rows import Prepared, Rows, StoreRow
from knowledge.store import Piece
from knowledge.terms import analysed

BATCH = 256
"""Pieces that are embedded and written together: the database is held for some tens of milliseconds."""


def embedded_text(piece: Piece) -> str:
    """What a piece is found by: it is about what its headings say, too."""
    return f"{piece.heading}\n{piece.text}" if piece.heading else piece.text


async def prepared(
    pieces: AsyncIterable[tuple[int, int, Piece]], embedder: Embedder, rows: Rows | None, store: StoreRow
) -> AsyncGenerator[list[Prepared], None]:
    """The pieces (each the id of its document, its position and itself) in batches.

    A text that `rows` have a vector of is not embedded again.
    """
    waiting: list[tuple[int, int, Piece]] = []
    async for one in pieces:
        waiting.append(one)
        if len(waiting) == BATCH:
            yield await _prepared(waiting, embedder, rows, store)
            waiting = []
    if waiting:
        yield await _prepared(waiting, embedder, rows, store)


async def _prepared(
    batch: list[tuple[int, int, Piece]], embedder: Embedder, rows: Rows | None, store: StoreRow
) -> list[Prepared]:
    texts = [embedded_text(piece) for _, _, piece in batch]
    digests = [hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest() for text in texts]
    found = [analysed(text) for text in texts]
    vectors = await rows.vectors_of(store, digests) if rows is not None and embedder.costly else {}
    by_digest = dict(zip(digests, texts, strict=True))
    missing = [digest for digest in by_digest if digest not in vectors]
    if isinstance(embedder, HashingEmbedder):
        vectors = dict(zip(digests, hashed([one.units for one in found]), strict=True))
    elif missing:
        made = await embedder.passages([by_digest[digest] for digest in missing])
        if made.shape != (len(missing), embedder.dimension):
            raise EmbedError(
                f"embedder {embedder.name!r} gave vectors of shape {made.shape}"
                f" for {len(missing)} texts of dimension {embedder.dimension}."
            )
        vectors |= dict(zip(missing, made.astype(np.float32), strict=True))
    return [
        Prepared(document, position, piece, digest, one.codes, one.spelled, vectors[digest])
        for (document, position, piece), digest, one in zip(batch, digests, found, strict=True)
    ]
