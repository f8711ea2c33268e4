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
"""Stored with an index. If the rules for words change, the index must be built again."""
Codes = NDArray[np.uint32]
"""Units in their order, with END after each sentence."""
END = 0
LONGEST_SPELLED = 64
"""The most characters of a word that can be found by a similar spelling."""


@lru_cache(maxsize=262_144)
def code(unit: str) -> int:
    """Return the number of a unit: 32 bits, never END. It is not Python's hash, which differs between processes."""
    return zlib.crc32(unit.encode()) or 1


class Analysed(NamedTuple):
    """What search needs to know of a text."""

    codes: Codes
    spelled: tuple[str, ...]
    """Its Latin words, which a transcriber or a caller may spell differently."""
    units: Counter[str]
    """How often the text holds each unit."""


def analysed(text: str) -> Analysed:
    """Return the units of the text, found once for all uses."""
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
    """Return a unit as a full-text index spells it. Stores share no tokens, and a token does not reveal its word."""
    return f"{store:x}g{number:08x}"


def tokens(store: int, units: Sequence[int]) -> str:
    """Return the units as a full-text index reads them."""
    return " ".join([f"{store:x}g{number:08x}" for number in units])


def joined(parts: Sequence[Codes]) -> Codes:
    """Return several texts as one."""
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint32)
