"""What another store found, where vectors are kept outside our rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dialgraph.passages import Filter, Passage


@dataclass(frozen=True, slots=True)
class ExternalHits:
    """What another store found near a question."""

    ours: Mapping[int, float]
    """Passages of our rows, best first, with their likeness, 0 to 1."""
    counts: float = 0.0
    """What full likeness adds to a score."""
    others: Sequence[Passage] = ()
    """What it holds that never came through us."""


def with_external_hits(passages: list[Passage], found: ExternalHits | None, only: Filter | None) -> list[Passage]:
    """Our passages and those of another store, best first; a filter knows only ours."""
    if found is None or not found.others or only:
        return passages
    return sorted([*passages, *found.others], key=lambda passage: -passage.score)
