"""A process that changes a store and kills itself: `python -m tests.support.killed FOLDER OPERATION STEP NTH`."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import knowledge.stores.faiss
import knowledge.stores.rows
from dialgraph.storage.database import Database
from knowledge.ingest.ingest import Ingestion
from knowledge.ingest.jobs import Jobs
from knowledge.search.vectors import SegmentFile
from knowledge.stores.rows import Rows
from tests.support.stores import opened

STEPS = {
    "job is claimed": (Jobs, "claim", "after"),
    "job tells": (Jobs, "tell", "before"),
    "job ends": (Jobs, "end", "before"),
    "job has ended": (Jobs, "end", "after"),
    "store is made": (Rows, "create", "after"),
    "document begins": (Rows, "begin", "after"),
    "passages arrive": (Rows, "arrive", "before"),
    "ids are taken": (knowledge.stores.rows, "take_ids", "after"),
    "rows are written": (knowledge.stores.rows, "bulk", "after"),
    "words are written": (knowledge.stores.rows, "insert_compared", "after"),
    "terms are counted": (knowledge.stores.rows, "add_terms", "after"),
    "passages have arrived": (Rows, "arrive", "after"),
    "publish": (Rows, "publish", "before"),
    "published": (Rows, "publish", "after"),
    "words are forgotten": (knowledge.stores.rows, "forget_words", "after"),
    "purge": (Rows, "purge", "before"),
    "purged": (Rows, "purge", "after"),
    "old pages are forgotten": (Database, "forget_old_pages", "before"),
    "vectors are written": (SegmentFile, "write", "before"),
    "vectors have been written": (SegmentFile, "write", "after"),
}
OPERATIONS = ("ingest", "replace", "remove")


def text(version: int) -> bytes:
    """Return a manual of 600 chapters that all name its version."""
    chapters = (f"# Chapter {at}\n\nVersion{version} of the manual says {at}.\n\n" for at in range(600))
    return "".join(chapters).encode()


def deadly(place: Any, name: str, when: str, nth: int) -> None:
    """Replace a function: its nth call kills this process, before it runs or after it has run."""
    whole: Callable[..., Any] = getattr(place, name)
    calls = 0

    def strike(moment: str) -> None:
        if moment == when and calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    if asyncio.iscoroutinefunction(whole):

        async def wrapped(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            strike("before")
            found = await whole(*arguments, **named)
            strike("after")
            return found
    else:

        def wrapped(*arguments: Any, **named: Any) -> Any:  # type: ignore[misc]  # the same wrapper for functions that are not async
            nonlocal calls
            calls += 1
            strike("before")
            found = whole(*arguments, **named)
            strike("after")
            return found

    setattr(place, name, wrapped)


async def change(folder: Path, operation: str) -> None:
    """Run the operation on the store, as the server would."""
    async with opened(folder) as store:
        if operation == "remove":
            await store.remove(["manual.md"])
            return
        database = Database("sqlite:", folder)
        ingestion = Ingestion(Jobs(database), lambda name: store)
        await ingestion.submit("main", "manual.md", text(1 if operation == "ingest" else 2))
        await ingestion.work_off()
        await store.search("manual", 1)
        await database.aclose()


if __name__ == "__main__":
    folder, operation, step, nth = sys.argv[1:]
    vars(knowledge.stores.faiss)["REST"] = 100  # a low value, so that vectors are written to a file
    deadly(*STEPS[step], int(nth))
    asyncio.run(change(Path(folder), operation))
