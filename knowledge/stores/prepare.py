"""Analysed pieces → prepared pieces, with the embedder's vectors."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from knowledge.embedders.embed import Embedder, EmbedError, Vectors
from knowledge.passages.analyse import AnalysedPiece, embedded_text
from knowledge.stores.prepared import Prepared
from knowledge.stores.rows import Rows, StoreRow


class Arriving(NamedTuple):
    """A piece to write: the id of its document, its position in the document, and the analysed piece."""

    document: int
    position: int
    analysed: AnalysedPiece


async def prepared(batch: Sequence[Arriving], embedder: Embedder, rows: Rows | None, store: StoreRow) -> list[Prepared]:
    """Return the pieces with their vectors. A text that has a vector in `rows` is not embedded again."""
    texts = [embedded_text(one.analysed.piece) for one in batch]
    digests = [hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest() for text in texts]
    vectors: dict[bytes, Vectors] = {}
    if embedder.from_units:
        for digest, one in zip(digests, batch, strict=True):
            # What the reading process sent is checked: a vector of another length is made again here.
            if one.analysed.vector is not None and one.analysed.vector.shape == (embedder.dimension,):
                vectors[digest] = one.analysed.vector
    elif rows is not None:
        vectors = await rows.vectors_of(store, digests)
    by_digest = dict(zip(digests, texts, strict=True))
    missing = [digest for digest in by_digest if digest not in vectors]
    if missing:
        made = await embedder.passages([by_digest[digest] for digest in missing])
        if made.shape != (len(missing), embedder.dimension):
            raise EmbedError(
                f"embedder {embedder.name!r} returned vectors of shape {made.shape}"
                f" for {len(missing)} texts of dimension {embedder.dimension}."
            )
        vectors |= dict(zip(missing, made.astype(np.float32), strict=True))
    return [
        Prepared(
            one.document,
            one.position,
            one.analysed.piece,
            digest,
            one.analysed.codes,
            one.analysed.spelled,
            vectors[digest],
        )
        for one, digest in zip(batch, digests, strict=True)
    ]
