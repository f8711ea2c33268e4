"""The worker that adds files to stores.

It claims a job, reads its file in a child process, writes the passages as they come, and reports its progress.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from time import monotonic
from typing import Any

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncConnection

from dialgraph.passages import StoreError
from dialgraph.storage.errors import DatabaseError
from dialgraph.tasks import to_the_end
from knowledge.document import Document, EmptyDocumentError
from knowledge.embedders.embed import EmbedError
from knowledge.ingest.jobs import LEASE_SECONDS, Job, Jobs
from knowledge.parse.errors import ParseError
from knowledge.parse.frames import Frame
from knowledge.parse.run import frames
from knowledge.parse.sniff import MEDIA_TYPES
from knowledge.passages.analyse import AnalysedPiece
from knowledge.store import Store

log = logging.getLogger(__name__)

_TELL_SECONDS = 0.5
_LOOK_SECONDS = 5.0
"""How often an idle worker checks for jobs that another process left."""

Progress = Callable[[Job, int, int], None]
"""Called with a job, how many of its passages are written, and how many there are."""


class _CancelledError(Exception):
    """The running job was cancelled."""


def unwatched(job: Job, done: int, total: int) -> None:
    """Ignore the progress."""


class Ingestion:
    """The worker of one process. It reads one file at a time, so that the other core is free for calls."""

    def __init__(self, jobs: Jobs, store: Callable[[str], Store]) -> None:
        self.jobs = jobs
        self._store = store
        self._woken = asyncio.Event()

    async def submit(self, store: str, document: str, source: bytes, tags: Sequence[str] = ()) -> Job:
        """Put a file into the queue and wake the worker."""
        job = await self.jobs.submit(store, document, source, tags)
        self._woken.set()
        return job

    async def submit_if(self, there: Select[Any], store: str, document: str, source: bytes) -> Job | None:
        """Submit the file if the query `there` finds a row, in the same transaction; else return None."""
        job = await self.jobs.submit_if(there, store, document, source)
        self._woken.set()
        return job

    def wake(self) -> None:
        """Let the worker check the queue immediately."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled. If that interrupts a job, the job waits for the next worker."""
        while True:
            self._woken.clear()
            try:
                await self.work_off()
            except Exception:
                # No error may end the worker, for example when the database is away for a moment.
                log.exception("the ingestion worker failed; it will run again")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _LOOK_SECONDS)

    async def work_off(self, only: Sequence[str] | None = None, progress: Progress = unwatched) -> None:
        """Do every waiting job, or only those in `only`, then return."""
        while claimed := await self._claimed(only):
            await self._do(*claimed, progress)

    async def _claimed(self, only: Sequence[str] | None) -> tuple[Job, bytes] | None:
        """Return the next job. If the worker is stopped at this moment, give the job back."""
        claiming = asyncio.ensure_future(self.jobs.claim(only))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with suppress(DatabaseError):  # then its lease expires
                await to_the_end(self._give_back(claiming))
            raise

    async def _give_back(self, claiming: Awaitable[tuple[Job, bytes] | None]) -> None:
        if (claimed := await claiming) is not None:
            await self.jobs.release(claimed[0].id)

    async def _do(self, job: Job, source: bytes, progress: Progress) -> None:
        beating = asyncio.create_task(self._beat(job))
        try:
            done = await self._take_in(job, source, progress)
        except _CancelledError:
            return
        except asyncio.CancelledError:
            with suppress(DatabaseError):  # then its lease expires
                await to_the_end(self.jobs.release(job.id))
            raise
        except (ParseError, EmptyDocumentError) as error:
            await self.jobs.end(job.id, "failed", str(error), fault="document")
        except (StoreError, EmbedError) as error:
            await self.jobs.end(job.id, "failed", str(error), fault="server")
        except Exception:
            log.exception("a file could not be added", extra={"store": job.store})
            await self.jobs.end(
                job.id, "failed", "The file could not be added. The log has the reason.", fault="server"
            )
        else:
            await self.jobs.end(job.id, "done", done=done)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self, job: Job) -> None:
        """Keep the lease while the job waits for its store, its child or its embedder."""
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self.jobs.beat(job.id)

    async def _take_in(self, job: Job, source: bytes, progress: Progress) -> int:
        store = self._store(job.store)
        digest = hashlib.sha256(source).hexdigest()
        document = Document(job.document, tags=job.tags, source_digest=digest)
        if await store.holds(document):
            return next(known.passages for known in await store.documents() if known.name == job.document)
        async with aclosing(frames(source, job.document, from_units=store.embedder.from_units)) as said:
            first = await anext(said)
            document = Document(job.document, tags=job.tags, media_type=MEDIA_TYPES[first.kind], source_digest=digest)
            async with aclosing(self._batches(job, first.total, said, progress)) as batches:
                return await store.take(document, batches, lambda *seen: self._complete(job, *seen))

    async def _batches(
        self, job: Job, total: int, said: AsyncGenerator[Frame, None], progress: Progress
    ) -> AsyncGenerator[Sequence[AnalysedPiece], None]:
        """Yield the pieces as they come. Between batches, report the progress in the row of the job.

        Stop if the job has been cancelled.
        """
        done = 0
        told = monotonic()
        await self._tell(job, 0, total)
        progress(job, 0, total)
        async for frame in said:
            yield frame.pieces
            done += len(frame.pieces)
            progress(job, done, total)
            if monotonic() - told > _TELL_SECONDS:
                told = monotonic()
                await self._tell(job, done, total)
        await self._tell(job, done, total)

    async def _complete(self, job: Job, connection: AsyncConnection, done: int) -> None:
        if not await self.jobs.complete(connection, job.id, done):
            raise _CancelledError

    async def _tell(self, job: Job, done: int, total: int) -> None:
        if not await self.jobs.tell(job.id, done, total):
            raise _CancelledError
