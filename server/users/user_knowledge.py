"""Users' knowledge bases as the routes use them: found by their owner, filled by jobs, deleted to the last byte."""

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
"""Files of one knowledge base in the queue; those of others are not to wait for them all."""
_PAUSE = 0.05
_LONGEST_PAUSE = 0.5
_FOLLOW_PAUSE = 0.2
_KEEP_ALIVE_SECONDS = 5.0


class UserKnowledge:
    """See the module."""

    def __init__(self, stores: OpenStores, bases: KnowledgeBases, most_bytes: int = 0) -> None:
        """`most_bytes`: of one user's files and documents; 0: no bound."""
        self._stores = stores
        self._most_bytes = most_bytes
        self._bases = bases
        self._forgetting: set[asyncio.Task[None]] = set()

    async def store(self, user_id: str, base: str) -> Store:
        """The store of the user's knowledge base. Raises UnknownBaseError."""
        return await self._open(await self._bases.get(user_id, base))

    async def documents(self, user_id: str, base: str) -> list[BaseDocument]:
        """Those that are there, and those on their way or refused. Raises UnknownBaseError."""
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
        """Let a file that failed be read again. Returns whether it had failed."""
        again = await self._ingestion.jobs.retry(job.id)
        self._ingestion.wake()
        return again

    async def expire(self) -> None:
        """Delete the files that could not be read, a day after."""
        await self._ingestion.jobs.expire()

    async def job(self, user_id: str, base: str, job_id: str) -> Job | None:
        """A job of the user's knowledge base. Raises UnknownBaseError."""
        found = await self._bases.get(user_id, base)
        job = await self._ingestion.jobs.get(job_id)
        return job if job is not None and job.store == found.store else None

    async def progress(self, job: Job) -> AsyncGenerator[Job | None, None]:
        """The job whenever it is further, until it is over; None when it was not for a while."""
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
        """The job when it is over. One that was deleted meanwhile counts as cancelled."""
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
        """A refused file is not kept."""
        await self._ingestion.jobs.forget(job.id)

    async def cancel_job(self, job: Job) -> None:
        """Stop it."""
        await self._ingestion.jobs.cancel(job.id)

    async def delete_document(self, user_id: str, base: str, document: str) -> None:
        """Delete a document, there or on its way. Raises UnknownBaseError and UnknownDocumentError."""
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
        """Delete it. Nobody finds it from now on; what it holds is gone at the end. Raises UnknownBaseError."""
        hidden = await self._bases.hide(user_id, base)
        # In a task of its own: a client that leaves does not leave half of it behind.
        task = asyncio.ensure_future(self._forget(hidden))
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)
        await asyncio.shield(task)

    async def delete_all(self, user_id: str) -> None:
        """Delete every knowledge base of the user."""
        for base in await self._bases.page(user_id):
            await self._forget(await self._bases.hide(user_id, base.id))
        for base in await self._bases.hidden(user_id):
            await self._forget(base)

    async def go_on(self) -> None:
        """End what a killed process began to delete."""
        for base in await self._bases.hidden():
            try:
                await self._forget(base)
            except Exception:
                # The boundary of one deletion: the others go on.
                log.exception("a knowledge base could not be deleted")

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
