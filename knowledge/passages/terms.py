"""A text as search compares it: its units as numbers, sentence by sentence."""

import zlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dialgraph.language.sentences import sentences
from dialgraph.language.words import FIRST_HAN, words

WORDS = "words-1"
"""What is written beside an index: other rules for words mean that it must be built again."""
Codes = NDArray[np.uint32]
"""Units in their order; END stands behind each sentence."""
END = 0
LONGEST_SPELLED = 64
"""Characters of a word that may be looked for by its spelling."""


@lru_cache(maxsize=262_144)
def code(unit: str) -> int:
    """A unit's number: 32 bits that are the same in every process, so not Python's hash. Never END."""
    return zlib.crc32(unit.encode()) or 1


class Analysed(NamedTuple):
    """What search needs to know of a text."""

    codes: Codes
    spelled: tuple[str, ...]
    """Its Latin words: those that a speech recogniser or a caller may spell otherwise."""
    units: Counter[str]
    """How often each unit stands in it."""


def analysed(text: str) -> Analysed:
    """The text's units, found once for all who need them."""
    numbers: list[int] = []
    counts: Counter[str] = Counter()
    for sentence in sentences(text):
        if found := words(sentence):
            numbers += [code(unit) for unit in found]
            numbers.append(END)
            counts.update(found)
    spelled = tuple(unit for unit in counts if unit[0] < FIRST_HAN and len(unit) <= LONGEST_SPELLED)
    return Analysed(np.array(numbers, dtype=np.uint32), spelled, counts)


def token(store: int, number: int) -> str:
    """How a full-text index spells a unit: no two stores share a word, and no word can be read from it."""
    return f"{store:x}g{number:08x}"


def tokens(store: int, units: Sequence[int]) -> str:
    """Units as a full-text index takes them."""
    return " ".join([f"{store:x}g{number:08x}" for number in units])


def joined(parts: Sequence[Codes]) -> Codes:
    """Several texts as one."""
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint32)
