"""Users' knowledge bases as the routes use them: found for their owner, filled by jobs, and deleted completely."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import replace

from dialgraph.environment import in_thread
from knowledge.document import QueueFullError
from knowledge.ingest.ingest import Ingestion
from knowledge.ingest.jobs import Job
from knowledge.knowledge_base import (
    BaseDocument,
    KnowledgeBase,
    QuotaError,
    UnknownBaseError,
    UnknownDocumentError,
    documents_of,
    kept_name,
    shown,
)
from knowledge.knowledge_bases import KnowledgeBases
from knowledge.open_stores import OpenStores
from knowledge.store import Store

log = logging.getLogger(__name__)

MOST_WAITING_OF_ONE = 50
"""The largest number of queued files of one knowledge base, so that others do not wait for too many of them."""
_PAUSE = 0.05
_LONGEST_PAUSE = 0.5
_FOLLOW_PAUSE = 0.2
_KEEP_ALIVE_SECONDS = 5.0


class UserKnowledge:
    """Finds, fills and deletes users' knowledge bases."""

    def __init__(self, stores: OpenStores, bases: KnowledgeBases, most_bytes: int = 0) -> None:
        """`most_bytes`: the limit for one user's files and documents; 0: no limit."""
        self._stores = stores
        self._most_bytes = most_bytes
        self._bases = bases
        self._forgetting: set[asyncio.Task[None]] = set()

    async def store(self, user_id: str, base: str) -> Store:
        """Return the store of the user's knowledge base. Raises UnknownBaseError."""
        return await self._open(await self._bases.get(user_id, base))

    async def documents(self, user_id: str, base: str) -> list[BaseDocument]:
        """Return the documents that are stored, in the queue or refused. Raises UnknownBaseError."""
        found = await self._bases.get(user_id, base)
        known = await (await self._open(found)).documents()
        return documents_of(known, await self._ingestion.jobs.of_store(found.store))

    async def take_in(self, user_id: str, base: str, file_name: str, source: bytes) -> Job:
        """Put a file into the queue. Raises UnknownBaseError, QueueFullError and QuotaError."""
        found = await self._bases.get(user_id, base)
        await self._check_quota(user_id, len(source))
        waiting = [job for job in await self._ingestion.jobs.of_store(found.store) if not job.finished]
        if len(waiting) >= MOST_WAITING_OF_ONE:
            raise QueueFullError(f"{MOST_WAITING_OF_ONE} files of this knowledge base are waiting. Try again later.")
        there = self._bases.there(user_id, base)
        job = await self._ingestion.submit_if(there, found.store, kept_name(file_name), source)
        if job is None:
            raise UnknownBaseError("There is no such knowledge base.")
        return job

    async def _check_quota(self, user_id: str, more: int) -> None:
        if not self._most_bytes:
            return
        stores = [one.store for one in await self._bases.page(user_id)]
        if await self._ingestion.jobs.bytes_of(stores) + more > self._most_bytes:
            raise QuotaError(f"Your documents would take more than {self._most_bytes >> 20} MB. Delete some first.")

    async def retry_job(self, job: Job) -> bool:
        """Queue a file that failed once more. Returns whether it had failed."""
        again = await self._ingestion.jobs.retry(job.id)
        self._ingestion.wake()
        return again

    async def expire(self) -> None:
        """Delete the files that could not be read, one day after they failed."""
        await self._ingestion.jobs.expire()

    async def job(self, user_id: str, base: str, job_id: str) -> Job | None:
        """Return a job of the user's knowledge base; None if there is no such job. Raises UnknownBaseError."""
        found = await self._bases.get(user_id, base)
        job = await self._ingestion.jobs.get(job_id)
        return job if job is not None and job.store == found.store else None

    async def progress(self, job: Job) -> AsyncGenerator[Job | None, None]:
        """Yield the job each time it changes, until it has finished. Yield None after five seconds without a change."""
        told, silent = None, 0.0
        while told is None or not told.finished:
            now = await self._ingestion.jobs.get(job.id) or _deleted(job)
            if now != told:
                told, silent = now, 0.0
                yield now
            elif silent >= _KEEP_ALIVE_SECONDS:
                silent = 0.0
                yield None
            await asyncio.sleep(_FOLLOW_PAUSE)
            silent += _FOLLOW_PAUSE

    async def finished(self, job: Job) -> Job:
        """Wait for the job and return it when it has finished. A job that is deleted counts as cancelled."""
        pause = _PAUSE
        while True:
            now = await self._ingestion.jobs.get(job.id)
            if now is None:
                return _deleted(job)
            if now.finished:
                return now
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def forget_job(self, job: Job) -> None:
        """Delete the job of a file that was refused."""
        await self._ingestion.jobs.forget(job.id)

    async def cancel_job(self, job: Job) -> None:
        """Stop the job."""
        await self._ingestion.jobs.cancel(job.id)

    async def delete_document(self, user_id: str, base: str, document: str) -> None:
        """Delete a document, stored or in the queue. Raises UnknownBaseError and UnknownDocumentError."""
        found = await self._bases.get(user_id, base)
        store = await self._open(found)
        names = {known.name for known in await store.documents()}
        names |= {job.document for job in await self._ingestion.jobs.of_store(found.store)}
        if not (own := [name for name in names if shown(name)[0] == document]):
            raise UnknownDocumentError("There is no such document.")
        for job in await self._ingestion.jobs.of_store(found.store):
            if job.document in own:
                await self._ingestion.jobs.cancel(job.id)
                await self._ingestion.jobs.forget(job.id)
        await store.remove(own)

    async def delete_base(self, user_id: str, base: str) -> None:
        """Hide the knowledge base, then delete its content. Returns when all is deleted. Raises UnknownBaseError."""
        # In a separate task from the start, so that the deletion finishes whenever the client leaves.
        task = asyncio.ensure_future(self._hide_and_forget(user_id, base))
        self._forgetting.add(task)
        task.add_done_callback(self._deletion_ended)
        await asyncio.shield(task)

    async def delete_all(self, user_id: str) -> None:
        """Delete every knowledge base of the user."""
        for base in await self._bases.page(user_id):
            await self._forget(await self._bases.hide(user_id, base.id))
        for base in await self._bases.hidden(user_id):
            await self._forget(base)

    async def go_on(self) -> None:
        """Finish the deletions that a killed process began."""
        for base in await self._bases.hidden():
            try:
                await self._forget(base)
            except Exception:
                # One failed deletion must not stop the others.
                log.exception("a knowledge base could not be deleted")

    async def _hide_and_forget(self, user_id: str, base: str) -> None:
        await self._forget(await self._bases.hide(user_id, base))

    def _deletion_ended(self, task: "asyncio.Task[None]") -> None:
        self._forgetting.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, UnknownBaseError):
            log.error("a knowledge base could not be deleted", exc_info=error)

    async def _forget(self, base: KnowledgeBase) -> None:
        store = await in_thread(self._stores.to_delete, base.store)
        await store.forget()
        await self._bases.forget(base)

    async def _open(self, base: KnowledgeBase) -> Store:
        return await in_thread(self._stores.store, base.store)

    @property
    def _ingestion(self) -> Ingestion:
        return self._stores.ingestion


def _deleted(job: Job) -> Job:
    return replace(job, state="cancelled", error="It was deleted.", fault="document")
