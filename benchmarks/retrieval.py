"""How well the right paragraph is found, compared with plain BM25 and vectors: each set alone, and all in one store.

The constants of `knowledge.search.relevance` and `dialgraph.language.weights` were tuned on every second question of
XQuAD, beginning with the first. "Held out" are the other questions. In a new set, no question was used for tuning.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from math import log1p
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import questions as question_files
from benchmarks.questions import Question
from dialgraph.language.words import words
from dialgraph.meaning import EmbedderAddress
from dialgraph.storage.database import Database
from knowledge.document import Document
from knowledge.embedders.embed import Embedder, open_embedder
from knowledge.store import Store, StoreConfig, open_store

Ranking = Callable[[str], Awaitable[list[int]]]
"""A function: question → indexes of paragraphs, best first."""
HEADER = [
    "| set | paragraphs | questions | order by | first | in five | MRR@10 | held out: first | in five |",
    "|---|---|---|---|---|---|---|---|---|",
]


class Result(NamedTuple):
    """The ranks of the right paragraphs, from 0. A rank of 10 means not found."""

    ranks: list[int]
    held_out: list[bool]

    def cells(self) -> str:
        """Return the figures of a table row."""
        held_out = [rank for rank, held in zip(self.ranks, self.held_out, strict=True) if held]
        mrr = sum(1 / (rank + 1) for rank in self.ranks if rank < 10) / len(self.ranks)
        return (
            f"{share(self.ranks, 1):.3f} | {share(self.ranks, 5):.3f} | {mrr:.3f}"
            f" | {share(held_out, 1):.3f} | {share(held_out, 5):.3f}"
        )


def share(ranks: Sequence[int], below: int) -> float:
    """Return the share of the ranks that are less than `below`."""
    return sum(rank < below for rank in ranks) / len(ranks)


def best_ten(scores: NDArray[np.floating]) -> list[int]:
    """Return the indexes of the ten highest scores."""
    places: list[int] = np.argsort(-scores, kind="stable")[:10].tolist()
    return places


def bm25(paragraphs: Sequence[str]) -> Ranking:
    """Return a ranking by textbook BM25 (k1 1.2, b 0.75) over the same units as our search."""
    counts = [Counter(words(paragraph)) for paragraph in paragraphs]
    lengths = [sum(count.values()) for count in counts]
    usual = sum(lengths) / len(lengths)
    holding: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for at, count in enumerate(counts):
        for unit, often in count.items():
            holding[unit].append((at, often))

    async def rank(question: str) -> list[int]:
        scores = np.zeros(len(paragraphs))
        for unit in dict.fromkeys(words(question)):
            found = holding.get(unit, [])
            rarity = log1p((len(paragraphs) - len(found) + 0.5) / (len(found) + 0.5))
            for at, often in found:
                scores[at] += rarity * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * lengths[at] / usual))
        return best_ten(scores)

    return rank


async def by_vectors(paragraphs: Sequence[str], embedder: Embedder) -> Ranking:
    """Return a ranking by the embedder's similarity alone."""
    vectors = await embedder.passages(paragraphs)

    async def rank(question: str) -> list[int]:
        return best_ten(vectors @ await embedder.question(question))

    return rank


async def ranks(questions: Sequence[Question], paragraphs: Sequence[str], rank: Ranking) -> Result:
    """Return the rank of the right paragraph for each question."""
    place = {paragraph: at for at, paragraph in enumerate(paragraphs)}
    found = []
    for question in questions:
        order = await rank(question.text)
        right = place[question.paragraph]
        found.append(order.index(right) if right in order else 10)
    return Result(found, [question.held_out for question in questions])


@asynccontextmanager
async def filled(paragraphs: Sequence[str], url: str) -> AsyncIterator[tuple[Store, Embedder]]:
    """Open a store with each of these paragraphs as a document. Yield the store and its embedder."""
    embedder = open_embedder("bench", EmbedderAddress(url))
    with tempfile.TemporaryDirectory() as folder:
        database = Database("sqlite:", Path(folder))
        store = open_store(StoreConfig("bench", "faiss:", database, Path(folder), embedder))
        await store.add([Document(str(at), paragraph) for at, paragraph in enumerate(paragraphs)])
        yield store, embedder
        await store.aclose()
        await database.aclose()


async def rows(name: str, asked: Sequence[Question], url: str) -> list[str]:
    """Return the three table rows of a set."""
    paragraphs = list(dict.fromkeys(question.paragraph for question in asked))
    async with filled(paragraphs, url) as (store, embedder):

        async def ours(question: str) -> list[int]:
            found = await store.search(question, 20, min_score=0.0)
            return [int(name) for name in dict.fromkeys(passage.document for passage in found)][:10]

        orders = {
            "plain BM25": bm25(paragraphs),
            "plain vectors": await by_vectors(paragraphs, embedder),
            "ours": ours,
        }
        lines = []
        for order, rank in orders.items():
            result = await ranks(asked, paragraphs, rank)
            lines.append(f"| {name} | {len(paragraphs)} | {len(asked)} | {order} | {result.cells()} |")
    return lines


async def thresholds(sets: dict[str, list[Question]], url: str) -> list[str]:
    """Return how often nothing is found: the questions of each set, asked of a store of each set, including its own."""
    lines = ["| questions of | asked of | nothing was found |", "|---|---|---|"]
    for asked, questions in sets.items():
        for known in sets:
            paragraphs = list(dict.fromkeys(question.paragraph for question in sets[known]))
            some = questions[:: max(1, len(questions) // 300)]
            async with filled(paragraphs, url) as (store, _):
                nothing = [not await store.search(question.text, 4) for question in some]
            lines.append(f"| {asked} | {known} | {sum(nothing) / len(nothing):.3f} |")
    return lines


def measure(sets: dict[str, list[Question]], url: str = "hashing:") -> list[str]:
    """Return both tables, as Markdown lines. `url` is the URL of the embedder."""

    async def all_sets() -> list[str]:
        lines = [*HEADER]
        for name, questions in sets.items():
            lines += await rows(name, questions, url)
        if len(sets) > 1:
            mixed = [question for questions in sets.values() for question in questions]
            lines += await rows("all in one", mixed, url)
        return [*lines, "", *await thresholds(sets, url)]

    return asyncio.run(all_sets())


def main() -> None:
    """Measure only these tables, with any embedder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument("--questions", type=Path, help="a folder of SQuAD-format files")
    parser.add_argument("--embedder", default="hashing:", help="an embedder's URL, such as onnx:FOLDER")
    arguments = parser.parse_args()
    sys.stdout.write("\n".join(measure(question_files.sets(arguments.questions), arguments.embedder)) + "\n")


if __name__ == "__main__":
    main()
