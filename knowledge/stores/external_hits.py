"""The hits of another store, for engines whose vectors are stored outside our rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dialgraph.passages import Filter, Passage


@dataclass(frozen=True, slots=True)
class ExternalHits:
    """What another store found near a question."""

    ours: Mapping[int, float]
    """The ids of passages in our rows, best first, with their likeness, 0 to 1."""
    counts: float = 0.0
    """How much full likeness adds to a score."""
    others: Sequence[Passage] = ()
    """Passages that were put into the other store without us."""


def with_external_hits(passages: list[Passage], found: ExternalHits | None, only: Filter | None) -> list[Passage]:
    """Return our passages and those of the other store, best first.

    With a filter, return only ours, because the filter cannot be applied to the others.
    """
    if found is None or not found.others or only:
        return passages
    return sorted([*passages, *found.others], key=lambda passage: -passage.score)
