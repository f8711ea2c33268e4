"""The queue of files that are to be added to stores.

The jobs are rows: no job is lost when a process is killed, and two processes share the work.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Select, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dialgraph.storage.database import Database
from dialgraph.storage.statement_timeout import UPLOAD_SECONDS, patient
from dialgraph.storage.tables.knowledge import DOCUMENT, JOB, STORE
from dialgraph.storage.text import cleaned
from knowledge.document import QueueFullError, checked_name

MOST_WAITING = 1_000
"""The most waiting files of all stores together. Further files are refused, not lost."""
MOST_TRIES = 3
"""A file that was begun this often and never finished probably kills every process that reads it."""
LEASE_SECONDS = 15
"""How long a job stays with a worker that no longer reports."""
UNFINISHED = ("queued", "running", "failed")
FINISHED = ("done", "failed", "cancelled")
FAILED_SECONDS = 24 * 3600
"""How long a file that could not be read stays stored, so that it can be tried again."""


@dataclass(frozen=True, slots=True)
class Job:
    """A file that is to be added to a store."""

    id: str
    store: str
    document: str
    tags: tuple[str, ...]
    state: str
    """`queued`, `running`, `done`, `failed` or `cancelled`."""
    done: int
    total: int
    """How many passages are written, and how many there will be; 0 until the file has been read."""
    error: str
    """Why it failed, in one sentence."""
    fault: str
    """What caused the failure: `document` or `server`."""

    @property
    def finished(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINISHED


class Jobs:
    """The rows of the queue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def submit(self, store: str, document: str, source: bytes, tags: Sequence[str] = ()) -> Job:
        """Put a file into the queue. Raises QueueFullError, and StoreError if the name is not valid."""
        with patient(UPLOAD_SECONDS):
            async with self._database.transaction() as connection:
                return await _submitted(connection, store, document, source, tags)

    async def submit_if(self, there: Select[Any], store: str, document: str, source: bytes) -> Job | None:
        """Submit the file if the query `there` finds a row, in the same transaction; else return None."""
        with patient(UPLOAD_SECONDS):
            async with self._database.transaction() as connection:
                if await connection.scalar(there) is None:
                    return None
                return await _submitted(connection, store, document, source, ())

    async def bytes_of(self, stores: Sequence[str]) -> int:
        """Return how much these stores hold: the files that wait or failed, and the text of their documents."""
        waiting = select(func.coalesce(func.sum(func.length(JOB.c.source)), 0)).where(JOB.c.store.in_(stores))
        held = (
            select(func.coalesce(func.sum(DOCUMENT.c.characters), 0))
            .select_from(DOCUMENT.join(STORE, DOCUMENT.c.store_id == STORE.c.id))
            .where(STORE.c.name.in_(stores))
        )
        async with self._database.reading() as connection:
            return int(await connection.scalar(waiting) or 0) + int(await connection.scalar(held) or 0)

    async def counts(self) -> dict[str, int]:
        """Return how many files are in each state that is not over: `queued`, `running` and `failed`."""
        found = select(JOB.c.state, func.count()).where(JOB.c.state.in_(UNFINISHED)).group_by(JOB.c.state)
        async with self._database.reading() as connection:
            known = {row[0]: int(row[1]) for row in await connection.execute(found)}
        return {state: known.get(state, 0) for state in UNFINISHED}

    async def expire(self) -> None:
        """Delete the files that failed and are older than FAILED_SECONDS."""
        before = time.time_ns() - FAILED_SECONDS * 1_000_000_000
        old = (JOB.c.state == "failed", JOB.c.created_at < before)
        with patient():
            async with self._database.transaction() as connection:
                await connection.execute(delete(JOB).where(*old))

    async def get(self, job: str) -> Job | None:
        """Return the job with this id, or None."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(*_SHOWN).where(JOB.c.id == cleaned(job)))).first()
        return _job(row) if row else None

    async def of_store(self, store: str) -> list[Job]:
        """Return the store's jobs, oldest first."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(*_SHOWN).where(JOB.c.store == store).order_by(JOB.c.created_at))
            return [_job(row) for row in rows]

    async def claim(self, only: Sequence[str] | None = None) -> tuple[Job, bytes] | None:
        """Claim the next job. Return it with its file, or None if there is no job.

        A job can be claimed if it waits, or if its worker has stopped reporting.
        """
        now = int(time.time())
        free = or_(JOB.c.state == "queued", and_(JOB.c.state == "running", JOB.c.leased_until < now))
        wanted = select(JOB.c.id, JOB.c.tries).where(free)
        if only is not None:
            wanted = wanted.where(JOB.c.id.in_(only))
        wanted = wanted.order_by(JOB.c.created_at).limit(1).with_for_update(skip_locked=True)
        async with self._database.transaction() as connection:
            found = (await connection.execute(wanted)).first()
            if found is None:
                return None
            values: dict[str, Any] = {
                "state": "running", "tries": JOB.c.tries + 1, "leased_until": now + LEASE_SECONDS, "done": 0,
            }  # fmt: skip
            if found.tries >= MOST_TRIES:
                values = {
                    "state": "failed",
                    "error": "The process that read the file was stopped every time.",
                    "fault": "document",
                }
            changed = update(JOB).where(JOB.c.id == found.id).values(values).returning(*_SHOWN, JOB.c.source)
            row = (await connection.execute(changed)).one()
        if row.state == "failed":
            return await self.claim(only)
        return _job(row), bytes(row.source or b"")

    async def beat(self, job: str) -> None:
        """Extend the lease of a running job that has no progress to report."""
        values = {"leased_until": int(time.time()) + LEASE_SECONDS}
        async with self._database.transaction() as connection:
            await connection.execute(update(JOB).where(JOB.c.id == job, JOB.c.state == "running").values(values))

    async def tell(self, job: str, done: int, total: int) -> bool:
        """Report progress and extend the lease. Returns whether to continue: False if the job was cancelled."""
        values = {"done": done, "total": total, "leased_until": int(time.time()) + LEASE_SECONDS}
        async with self._database.transaction() as connection:
            changed = update(JOB).where(JOB.c.id == job, JOB.c.state == "running").values(values)
            return bool((await connection.execute(changed)).rowcount)

    async def end(self, job: str, state: str, error: str = "", done: int = 0, fault: str = "") -> None:
        """End the job as `done`, or as `failed` for a reason.

        The file of a failed job stays stored, so that it can be tried again.
        """
        values: dict[str, Any] = {"state": state, "error": error[:500], "fault": fault, "leased_until": 0}
        if state == "done":
            values |= {"source": None, "done": done, "total": done}
        async with self._database.transaction() as connection:
            await connection.execute(update(JOB).where(JOB.c.id == job, JOB.c.state == "running").values(values))

    async def complete(self, connection: AsyncConnection, job: str, done: int) -> bool:
        """End the job as done, in the transaction that makes its passages visible.

        Returns whether it was still running: False if it was cancelled.
        """
        values = {"state": "done", "source": None, "done": done, "total": done, "error": "", "leased_until": 0}
        running = update(JOB).where(JOB.c.id == job, JOB.c.state == "running").values(values)
        return bool((await connection.execute(running)).rowcount)

    async def release(self, job: str) -> None:
        """Put the job back into the queue as if it had not been begun: its worker stops through no fault of the job."""
        values = {"state": "queued", "leased_until": 0, "tries": JOB.c.tries - 1}
        async with self._database.transaction() as connection:
            await connection.execute(update(JOB).where(JOB.c.id == job, JOB.c.state == "running").values(values))

    async def cancel(self, job: str) -> bool:
        """Cancel a job that waits or runs. Returns whether there was one."""
        values = {"state": "cancelled", "source": None, "leased_until": 0}
        open_job = (JOB.c.id == job, JOB.c.state.in_(("queued", "running")))
        async with self._database.transaction() as connection:
            stopped = bool((await connection.execute(update(JOB).where(*open_job).values(values))).rowcount)
        await self._database.forget_old_pages()
        return stopped

    async def retry(self, job: str) -> bool:
        """Put a failed job back into the queue. Returns whether it had failed."""
        values = {"state": "queued", "tries": 0, "error": "", "fault": "", "done": 0, "total": 0}
        async with self._database.transaction() as connection:
            failed = update(JOB).where(JOB.c.id == job, JOB.c.state == "failed").values(values)
            return bool((await connection.execute(failed)).rowcount)

    async def forget(self, job: str) -> None:
        """Delete a job that has ended, and the file of a failed one."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(JOB).where(JOB.c.id == job, JOB.c.state.in_(FINISHED)))
        await self._database.forget_old_pages()


_SHOWN = (
    JOB.c.id, JOB.c.store, JOB.c.document, JOB.c.tags, JOB.c.state, JOB.c.done, JOB.c.total, JOB.c.error, JOB.c.fault,
)  # fmt: skip


async def _submitted(connection: AsyncConnection, store: str, document: str, source: bytes, tags: Sequence[str]) -> Job:
    checked_name(document)
    waiting = select(func.count()).select_from(JOB).where(JOB.c.state.in_(("queued", "running")))
    if (await connection.scalar(waiting) or 0) >= MOST_WAITING:
        raise QueueFullError(f"{MOST_WAITING} files are already waiting. Try again later.")
    values = {
        "id": uuid4().hex, "store": store, "document": document, "tags": list(tags), "state": "queued",
        "source": source, "done": 0, "total": 0, "tries": 0, "error": "", "fault": "", "created_at": time.time_ns(),
        "leased_until": 0,
    }  # fmt: skip
    return _job((await connection.execute(insert(JOB).values(values).returning(*_SHOWN))).one())


def _job(row: Any) -> Job:
    return Job(row.id, row.store, row.document, tuple(row.tags), row.state, row.done, row.total, row.error, row.fault)
