"""A cache of recent searches: the same question costs nothing while the store has not changed.

Two questions are the same if they have the same words, without stop words and in any order. If the embedder knows
meaning, nearly the same vector and the same numbers are enough. Any change of the store clears the cache.
"""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np

from dialgraph.language.focus import focus
from dialgraph.language.words import is_stop_word, words
from dialgraph.passages import Filter, Passage
from knowledge.embedders.embed import Vectors

_REMEMBERED = 512
_COMPARED = 64
_THE_SAME = 0.985


@dataclass(frozen=True, slots=True)
class Key:
    """What two questions must have in common to be the same."""

    units: frozenset[str]
    asked: frozenset[str]
    """The units of the part that asks."""
    numbers: frozenset[str]
    most: int
    only: Filter | None


def key_of(question: str, most: int, only: Filter | None) -> Key:
    """Return the key of the question. It leaves out stop words."""
    units = frozenset(unit for unit in words(question) if not is_stop_word(unit))
    asked = units & frozenset(words(focus(question)))
    return Key(units, asked, frozenset(unit for unit in units if any(map(str.isdigit, unit))), most, only)


class SearchCache:
    """The recent searches of one store. Several threads use it."""

    def __init__(self) -> None:
        self._generation = -1
        self._found: OrderedDict[Key, tuple[Vectors | None, list[Passage]]] = OrderedDict()
        self._lock = Lock()

    def find(self, generation: int, key: Key, vector: Vectors | None) -> list[Passage] | None:
        """Return what was found, or None if it is unknown or the store has changed.

        Pass `vector` only from an embedder that knows meaning.
        """
        with self._lock:
            if generation != self._generation:
                return None
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key][1]
            if vector is None:
                return None
            for other in list(reversed(self._found))[:_COMPARED]:
                known, passages = self._found[other]
                alike = (other.numbers, other.most, other.only) == (key.numbers, key.most, key.only)
                if alike and known is not None and float(np.dot(known, vector)) >= _THE_SAME:
                    return passages
            return None

    def keep(self, generation: int, key: Key, vector: Vectors | None, passages: list[Passage]) -> None:
        """Store what was found."""
        with self._lock:
            if generation != self._generation:
                self._found.clear()
                self._generation = generation
            self._found[key] = (vector, passages)
            if len(self._found) > _REMEMBERED:
                self._found.popitem(last=False)
