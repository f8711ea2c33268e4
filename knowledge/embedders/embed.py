"""The Embedder port, the table from URL scheme to engine, and the embedded engine: no download, any language."""

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
"""Shape (texts, dimension), or (dimension,) for one; of unit length."""


class EmbedError(Exception):
    """Texts could not be embedded. The message names the embedder and no secret."""


class Embedder(Protocol):
    """Text → vectors of unit length whose inner product is a similarity."""

    name: str
    """What is written into an index; another name means that the index must be built again."""
    dimension: int
    """Numbers a vector; 0 as long as nobody has asked."""
    counts: float
    """What full similarity adds to a passage's score, where 1 is all that was asked."""
    unrelated: float
    """The similarity that texts about different things usually have; it adds nothing."""

    proposes_up_to: int
    """Passages of a store up to which vectors propose passages of their own; in a larger one they only score."""
    hashing: bool
    """Whether it is the embedded one, whose vectors come with a text's analysis."""

    async def passages(self, texts: Sequence[str]) -> Vectors:
        """One vector a text."""

    async def question(self, text: str) -> Vectors:
        """The question's vector, shape (dimension,)."""

    async def aclose(self) -> None:
        """Give back what is open."""


def of_unit_length(vectors: Vectors) -> Vectors:
    """The vectors, shape (texts, dimension), as the port has them."""
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
    """Return the engine that the address names. `name` is what settings, graphs and errors call it."""
    return cast(Embedder, engine_of("embedder", name, address.url, ENGINES)(name, address))


DIMENSION = 256
_SHORTEST_GRAM, _LONGEST_GRAM = 3, 5


class HashingEmbedder:
    """Each unit and each piece of a Latin word goes to one dimension with a sign, both from its hash.

    It knows spelling and no meaning: "invaded" is near "invader", and "dog" as far from "hound" as from "stone".
    So it finds what words alone miss by an ending or a slip of the pen, and counts little beside them.
    """

    name = f"hashing-{DIMENSION}-3"
    dimension = DIMENSION
    counts = 0.1
    unrelated = 0.0
    proposes_up_to = 5_000  # no graph finds its way among hashes, and comparing all takes its time
    hashing = True

    def __init__(self, name: str = "main", address: EmbedderAddress | None = None) -> None:
        pass

    async def passages(self, texts: Sequence[str]) -> Vectors:
        """See the port."""
        return hashed([Counter(words(text)) for text in texts])

    async def question(self, text: str) -> Vectors:
        """See the port."""
        vector: Vectors = hashed([Counter(words(text))])[0]
        return vector

    async def aclose(self) -> None:
        """See the port: nothing is open."""


def hashed(units: Sequence[Counter[str]]) -> Vectors:
    """The vectors of texts whose units have been counted."""
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
            else:  # one piece, itself
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
    """A Latin unit's own vector, the sum of its pieces."""
    marked = f"<{unit}>"
    pieces = [unit]
    for size in range(_SHORTEST_GRAM, _LONGEST_GRAM + 1):
        pieces += [marked[at : at + size] for at in range(len(marked) - size + 1)]
    numbers = np.array([zlib.crc32(piece.encode()) for piece in pieces])
    vector = np.bincount(numbers % DIMENSION, np.where(numbers >> 31, 1.0, -1.0), DIMENSION)
    return (vector * math.sqrt(weight(unit) / len(pieces))).astype(np.float32)
