"""The Reranker port: a model that reads question and passage together, and orders the best few anew."""

from collections.abc import Sequence
from typing import Protocol


class Reranker(Protocol):
    """Orders what a search found."""

    async def scores(self, question: str, passages: Sequence[str]) -> list[float] | None:
        """One score a passage, 0 to 1; None if the reranker is away, and the order stays."""

    async def aclose(self) -> None:
        """Give back what is open."""
