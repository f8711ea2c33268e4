"""The Embedder port, the table from URL scheme to engine, and the built-in embedder: no download, any language."""

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from dialgraph.engines import engine_of
from dialgraph.language.weights import weight
from dialgraph.language.words import FIRST_HAN, HAN_CHARACTER, is_stop_word, words
from dialgraph.meaning import EmbedderAddress

Vectors = NDArray[np.float32]
"""Vectors of unit length: shape (texts, dimension), or (dimension,) for one text."""


class EmbedError(Exception):
    """Texts could not be embedded. The message names the embedder and contains no secret."""


class Embedder(Protocol):
    """Text → vectors of unit length. The inner product of two vectors is their similarity."""

    name: str
    """Stored with an index. If the name changes, the index must be built again."""
    dimension: int
    """The length of a vector; 0 until the first text has been embedded."""
    counts: float
    """How much full similarity adds to a passage's score. A passage that holds all that was asked has about 1."""
    unrelated: float
    """The usual similarity of texts about different things. It adds nothing to a score."""

    proposes_up_to: int
    """The most passages of a store in which vectors find passages by themselves. In a larger one they only score."""
    from_units: str
    """The dotted path (`module:function`) of what makes vectors from the units of texts, with no server or model. Such
    vectors are computed while a text is analysed, also in the process that reads files, and know no meaning. Empty for
    every other embedder.
    """

    async def passages(self, texts: Sequence[str]) -> Vectors:
        """Return one vector for each text. Raises EmbedError."""

    async def question(self, text: str) -> Vectors:
        """Return the question's vector, shape (dimension,). Raises EmbedError."""

    async def aclose(self) -> None:
        """Close everything that the embedder has opened."""


def of_unit_length(vectors: Vectors) -> Vectors:
    """Return the vectors, shape (texts, dimension), scaled to unit length."""
    normalised: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return normalised.astype(np.float32)


ENGINES = {
    "hashing": "knowledge.embedders.embed:HashingEmbedder",
    "http": "knowledge.embedders.openai:OpenAIEmbedder",
    "https": "knowledge.embedders.openai:OpenAIEmbedder",
    "langchain": "knowledge.embedders.langchain:LangChainEmbedder",
    "onnx": "knowledge.embedders.onnx:OnnxEmbedder",
}


def open_embedder(name: str, address: EmbedderAddress) -> Embedder:
    """Return the engine that the address names. `name` is its name in settings, graphs and errors."""
    return cast(Embedder, engine_of("embedder", name, address.url, ENGINES)(name, address))


DIMENSION = 256
_SHORTEST_GRAM, _LONGEST_GRAM = 3, 5


class HashingEmbedder:
    """The built-in embedder. It hashes each unit, and each piece of a Latin word, to one dimension and a sign.

    It knows spelling but not meaning: "invaded" is near "invader", but "dog" is as far from "hound" as from "stone".
    So it finds words with another ending or a typing error, and counts little compared with the words themselves.
    """

    name = f"hashing-{DIMENSION}-3"
    dimension = DIMENSION
    counts = 0.1
    unrelated = 0.0
    proposes_up_to = 5_000  # a graph index does not work on hashes, and comparing all vectors is slow
    from_units = "knowledge.embedders.embed:hashed"

    def __init__(self, name: str = "main", address: EmbedderAddress | None = None) -> None:
        pass

    async def passages(self, texts: Sequence[str]) -> Vectors:
        """Return the hashed vectors of the texts."""
        return hashed([Counter(words(text)) for text in texts])

    async def question(self, text: str) -> Vectors:
        """Return the hashed vector of the question."""
        vector: Vectors = hashed([Counter(words(text))])[0]
        return vector

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""


def hashed(units: Sequence[Counter[str]]) -> Vectors:
    """Return the vectors of texts, given the counts of their units."""
    vectors = np.zeros((len(units), DIMENSION), dtype=np.float32)
    for row, counts in zip(vectors, units, strict=True):
        latin: list[tuple[str, int]] = []
        numbers: list[int] = []
        values: list[float] = []
        for unit, count in counts.items():
            if is_stop_word(unit):
                continue
            if unit[0] < FIRST_HAN or not HAN_CHARACTER.match(unit):
                latin.append((unit, count))
            else:  # a Han unit is not split into pieces
                numbers.append(zlib.crc32(unit.encode()))
                values.append(math.sqrt(weight(unit)) * (1 + math.log(count)))
        if latin:
            often = np.log([count for _, count in latin], dtype=np.float32) + 1
            row += often @ np.array([_vector(unit) for unit, _ in latin])
        if numbers:
            hashes = np.array(numbers)
            row += np.bincount(hashes % DIMENSION, np.where(hashes >> 31, values, np.negative(values)), DIMENSION)
        row /= float(np.linalg.norm(row)) or 1.0
    return vectors


@lru_cache(maxsize=16_384)
def _vector(unit: str) -> Vectors:
    """Return the vector of a Latin unit: the sum over its pieces."""
    marked = f"<{unit}>"
    pieces = [unit]
    for size in range(_SHORTEST_GRAM, _LONGEST_GRAM + 1):
        pieces += [marked[at : at + size] for at in range(len(marked) - size + 1)]
    numbers = np.array([zlib.crc32(piece.encode()) for piece in pieces])
    vector = np.bincount(numbers % DIMENSION, np.where(numbers >> 31, 1.0, -1.0), DIMENSION)
    return (vector * math.sqrt(weight(unit) / len(pieces))).astype(np.float32)
