"""How fast a large store is searched and filled. A search includes the embedding, and the engine runs in this process.

The text is generated: a Zipf distribution over 60,000 words, 45 to 95 words in a passage. A question consists of six
words of one passage and three words without content. `make bench-full` adds a million passages.
"""

import argparse
import asyncio
import gc
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil

from dialgraph.storage.database import Database
from knowledge.document import Document, Piece
from knowledge.embedders.embed import HashingEmbedder
from knowledge.ingest.ingest import Ingestion
from knowledge.ingest.jobs import Jobs
from knowledge.store import Store, StoreConfig, open_store

_WORDS = 60_000
_PASSAGES_A_DOCUMENT = 500
_QUESTIONS = 500
_OF_A_FILE = 10_000
"""The number of passages in a file that is indexed."""


def passages(count: int) -> Iterator[str]:
    """Yield generated passages, the same ones each time."""
    chance = np.random.default_rng(1)
    sounds = [
        a + b for a in "b c d f g h k l m n p r s t v w z br st tr ch sh".split() for b in "a e i o u ai ou en".split()
    ]
    vocabulary = ["".join(chance.choice(sounds, size=chance.integers(2, 5))) for _ in range(_WORDS)]
    likely = np.cumsum(1 / np.arange(1, _WORDS + 1) ** 1.05)
    likely /= likely[-1]
    for _ in range(count):
        length = int(chance.integers(45, 95))
        found = [vocabulary[at] for at in np.searchsorted(likely, chance.random(length))]
        yield " ".join(" ".join(found[at : at + 12]).capitalize() + "." for at in range(0, length, 12))


def documents(count: int, kept: list[str]) -> Iterator[Document]:
    """Yield documents of five hundred passages. Append a sample of the passages to `kept`, for the questions."""
    batch: list[Piece] = []
    for at, text in enumerate(passages(count)):
        if at % max(1, count // 2000) == 0:
            kept.append(text)
        batch.append(Piece(text, "", None, 0, len(text)))
        if len(batch) == _PASSAGES_A_DOCUMENT:
            yield Document(f"{at}", pieces=tuple(batch))
            batch = []
    if batch:
        yield Document("last", pieces=tuple(batch))


@asynccontextmanager
async def opened(folder: Path, url: str) -> AsyncIterator[tuple[Store, Database]]:
    """Open a store in this folder or database, with the engine that fits the database."""
    database = Database(url, folder)
    engine = "faiss:" if database.engine == "sqlite" else "pgvector:"
    store = open_store(StoreConfig("bench", engine, database, folder, HashingEmbedder()))
    try:
        yield store, database
    finally:
        await store.aclose()
        await database.aclose()


async def _fill(store: Store, count: int) -> tuple[float, list[str]]:
    """Fill the store. Return the passages per second, and a sample of the passages."""
    kept: list[str] = []
    begun = time.perf_counter()
    batch: list[Document] = []
    for document in documents(count, kept):
        batch.append(document)
        if len(batch) == 40:
            await store.add(batch)
            batch = []
    if batch:
        await store.add(batch)
    return count / (time.perf_counter() - begun), kept


async def _search(store: Store, kept: list[str], seed: int = 3) -> tuple[float, float]:
    """Return p50 and p99 of a search, in milliseconds. Use a new seed for each call: it gives other questions, because
    repeated ones come from the cache.
    """
    chance = random.Random(seed)
    questions = [
        "what is the " + " ".join(chance.sample(chance.choice(kept).replace(".", "").split(), 6)) + "?"
        for _ in range(_QUESTIONS)
    ]
    taken = []
    for question in questions:
        begun = time.perf_counter()
        await store.search(question, 4)
        taken.append((time.perf_counter() - begun) * 1000)
    return float(np.median(taken[100:])), float(np.quantile(taken[100:], 0.99))


async def _take_in(store: Store, database: Database, name: str) -> float:
    """Index a file that a child process reads. Return the passages per second."""
    ingestion = Ingestion(Jobs(database), lambda _: store)
    text = "\n\n".join(f"# {name} {at}\n\n{passage}" for at, passage in enumerate(passages(_OF_A_FILE)))
    await ingestion.submit("bench", name, text.encode())
    begun = time.perf_counter()
    await ingestion.work_off()
    return _OF_A_FILE / (time.perf_counter() - begun)


async def _while_filling(store: Store, database: Database, kept: list[str]) -> tuple[float, float, float]:
    """Return p50 and p99 of searches while a file is indexed, and the worst delay of the loop, in milliseconds."""
    worst, done = 0.0, asyncio.Event()

    async def tick() -> None:
        nonlocal worst
        while not done.is_set():
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            worst = max(worst, time.perf_counter() - begun - 0.001)

    async def search() -> tuple[float, float]:
        found: list[tuple[float, float]] = []
        while not done.is_set():
            found.append(await _search(store, kept, 100 + len(found)))
        return float(np.median([one[0] for one in found])), float(np.max([one[1] for one in found]))

    ticking, searching = asyncio.create_task(tick()), asyncio.create_task(search())
    await _take_in(store, database, "more.txt")
    done.set()
    p50, p99 = await searching
    await ticking
    return p50, p99, worst * 1000


async def _measure(sizes: Sequence[int], url: str) -> list[str]:
    lines = [
        "| passages | search p50 | p99 | while a file comes in: p50 | p99 | the loop's worst delay | filled by `add`"
        " | by a file | RSS |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            async with opened(Path(folder), url) as (store, database):
                rate, kept = await _fill(store, size)
                await store.search("warm", 1)
                p50, p99 = await _search(store, kept)
                busy_p50, busy_p99, worst = await _while_filling(store, database, kept)
                by_file = await _take_in(store, database, "alone.txt")
                memory = psutil.Process().memory_info().rss / 2**20
        lines.append(
            f"| {size:,} | {p50:.2f} ms | {p99:.2f} ms | {busy_p50:.2f} ms | {busy_p99:.2f} ms | {worst:.0f} ms"
            f" | {rate:,.0f}/s | {by_file:,.0f}/s | {memory:.0f} MB |"
        )
    return lines


def measure(sizes: Sequence[int], url: str = "sqlite:") -> list[str]:
    """Return the table, as Markdown lines."""
    gc.collect()
    gc.freeze()  # this and the next line: as the server does after its start
    sys.setswitchinterval(0.0005)
    return asyncio.run(_measure(sizes, url))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("sizes", type=int, nargs="+", help="number of passages in a store; give one or more")
    parser.add_argument("--database", default="sqlite:", help="the address of an empty PostgreSQL database")
    arguments = parser.parse_args()
    sys.stdout.write("\n".join(measure(arguments.sizes, arguments.database)) + "\n")
