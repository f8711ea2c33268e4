"""The queue of files that are to be taken in: rows, so that a kill loses nothing and two processes share the work."""

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
"""Files in the queue of all stores; more are refused, not lost."""
MOST_TRIES = 3
"""A file that was begun so often and never ended stops whoever takes it."""
LEASE_SECONDS = 15
"""How long nobody else takes a job from one who does not tell that he is alive."""
FINISHED = ("done", "failed", "cancelled")
FAILED_SECONDS = 24 * 3600
"""How long a file that could not be read is kept, to be tried again."""


@dataclass(frozen=True, slots=True)
class Job:
    """A file on its way into a store."""

    id: str
    store: str
    document: str
    tags: tuple[str, ...]
    state: str
    """`queued`, `running`, `done`, `failed` or `cancelled`."""
    done: int
    total: int
    """Passages that were written, and that there will be; 0 until the file has been read."""
    error: str
    """Why it failed, in a sentence."""
    fault: str
    """Whose fault that was: `document` or `server`."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in FINISHED


class Jobs:
    """The rows of the queue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def submit(self, store: str, document: str, source: bytes, tags: Sequence[str] = ()) -> Job:
        """Put a file into the queue. Raises QueueFullError, and StoreError for a name that cannot be kept."""
        with patient(UPLOAD_SECONDS):
            async with self._database.transaction() as connection:
                return await _submitted(connection, store, document, source, tags)

    async def submit_if(self, there: Select[Any], store: str, document: str, source: bytes) -> Job | None:
        """The same if this finds something, in the same transaction; else None."""
        with patient(UPLOAD_SECONDS):
            async with self._database.transaction() as connection:
                if await connection.scalar(there) is None:
                    return None
                return await _submitted(connection, store, document, source, ())

    async def bytes_of(self, stores: Sequence[str]) -> int:
        """How much these stores keep: the files that wait or failed, and the text of what was taken in."""
        waiting = select(func.coalesce(func.sum(func.length(JOB.c.source)), 0)).where(JOB.c.store.in_(stores))
        held = (
            select(func.coalesce(func.sum(DOCUMENT.c.characters), 0))
            .select_from(DOCUMENT.join(STORE, DOCUMENT.c.store_id == STORE.c.id))
            .where(STORE.c.name.in_(stores))
        )
        async with self._database.reading() as connection:
            return int(await connection.scalar(waiting) or 0) + int(await connection.scalar(held) or 0)

    async def expire(self) -> None:
        """Delete the files that failed long ago."""
        before = time.time_ns() - FAILED_SECONDS * 1_000_000_000
        old = (JOB.c.state == "failed", JOB.c.created_at < before)
        with patient():
            async with self._database.transaction() as connection:
                await connection.execute(delete(JOB).where(*old))

    async def get(self, job: str) -> Job | None:
        """The job of this id."""
        async with self._database.reading() as connection:
            row = (await connection.execute(select(*_SHOWN).where(JOB.c.id == cleaned(job)))).first()
        return _job(row) if row else None

    async def of_store(self, store: str) -> list[Job]:
        """The store's jobs, oldest first."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(*_SHOWN).where(JOB.c.store == store).order_by(JOB.c.created_at))
            return [_job(row) for row in rows]

    async def claim(self, only: Sequence[str] | None = None) -> tuple[Job, bytes] | None:
        """The next job and its file, now running: one that waits, or whose runner has gone silent."""
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
                    "error": "Whoever read the file was stopped, each time.",
                    "fault": "document",
                }
            changed = update(JOB).where(JOB.c.id == found.id).values(values).returning(*_SHOWN, JOB.c.source)
            row = (await connection.execute(changed)).one()
        if row.state == "failed":
            return await self.claim(only)
        return _job(row), bytes(row.source or b"")

    async def beat(self, job: str) -> None:
        """The runner is alive, though he has nothing to tell."""
        values = {"leased_until": int(time.time()) + LEASE_SECONDS}
        async with self._database.transaction() as connection:
            await connection.execute(update(JOB).where(JOB.c.id == job, JOB.c.state == "running").values(values))

    async def tell(self, job: str, done: int, total: int) -> bool:
        """The runner is alive and so far. Returns whether he is to go on: nobody cancelled."""
        values = {"done": done, "total": total, "leased_until": int(time.time()) + LEASE_SECONDS}
        async with self._database.transaction() as connection:
            changed = update(JOB).where(JOB.c.id == job, JOB.c.state == "running").values(values)
            return bool((await connection.execute(changed)).rowcount)

    async def end(self, job: str, state: str, error: str = "", done: int = 0, fault: str = "") -> None:
        """The job is done, or failed for a reason; the file of a failed one is kept, to be tried again."""
        values: dict[str, Any] = {"state": state, "error": error[:500], "fault": fault, "leased_until": 0}
        if state == "done":
            values |= {"source": None, "done": done, "total": done}
        async with self._database.transaction() as connection:
            await connection.execute(update(JOB).where(JOB.c.id == job, JOB.c.state == "running").values(values))

    async def complete(self, connection: AsyncConnection, job: str, done: int) -> bool:
        """It is done, in the transaction in which its passages are seen. Returns whether it ran: nobody cancelled."""
        values = {"state": "done", "source": None, "done": done, "total": done, "error": "", "leased_until": 0}
        running = update(JOB).where(JOB.c.id == job, JOB.c.state == "running").values(values)
        return bool((await connection.execute(running)).rowcount)

    async def release(self, job: str) -> None:
        """The runner stops, and the job is not his fault: it waits again, as if it had not been begun."""
        values = {"state": "queued", "leased_until": 0, "tries": JOB.c.tries - 1}
        async with self._database.transaction() as connection:
            await connection.execute(update(JOB).where(JOB.c.id == job, JOB.c.state == "running").values(values))

    async def cancel(self, job: str) -> bool:
        """Stop it, wherever it is. Returns whether there was something to stop."""
        values = {"state": "cancelled", "source": None, "leased_until": 0}
        open_job = (JOB.c.id == job, JOB.c.state.in_(("queued", "running")))
        async with self._database.transaction() as connection:
            stopped = bool((await connection.execute(update(JOB).where(*open_job).values(values))).rowcount)
        await self._database.forget_old_pages()
        return stopped

    async def retry(self, job: str) -> bool:
        """Let a failed one wait again. Returns whether it had failed."""
        values = {"state": "queued", "tries": 0, "error": "", "fault": "", "done": 0, "total": 0}
        async with self._database.transaction() as connection:
            failed = update(JOB).where(JOB.c.id == job, JOB.c.state == "failed").values(values)
            return bool((await connection.execute(failed)).rowcount)

    async def forget(self, job: str) -> None:
        """Delete a job that is over; a failed one goes with its file."""
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
        raise QueueFullError(f"{MOST_WAITING} files are waiting to be taken in. Try again later.")
    values = {
        "id": uuid4().hex, "store": store, "document": document, "tags": list(tags), "state": "queued",
        "source": source, "done": 0, "total": 0, "tries": 0, "error": "", "fault": "", "created_at": time.time_ns(),
        "leased_until": 0,
    }  # fmt: skip
    return _job((await connection.execute(insert(JOB).values(values).returning(*_SHOWN))).one())


def _job(row: Any) -> Job:
    return Job(row.id, row.store, row.document, tuple(row.tags), row.state, row.done, row.total, row.error, row.fault)
