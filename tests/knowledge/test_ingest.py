"""Ingesting files: jobs report their progress, fail with a reason, can be cancelled, and survive a kill."""

import asyncio
import random
import shutil
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dialgraph.passages import StoreError
from dialgraph.project import ROOT
from dialgraph.storage.database import Database
from knowledge.document import Document, QueueFullError
from knowledge.ingest.ingest import Ingestion
from knowledge.ingest.jobs import MOST_TRIES, MOST_WAITING, Job, Jobs
from knowledge.store import Store
from tests.support.files import docx, paragraph
from tests.support.killed import OPERATIONS, STEPS, change, text
from tests.support.serving import serving
from tests.support.stores import opened
from tests.support.wire import read_stream

RAG = "/rag/chat/completions"
MANUAL = docx(
    "".join(paragraph(f"Chapter {at}", "H1") + paragraph(f"Lever {at} opens flap {at}.") for at in range(700))
)


@asynccontextmanager
async def working(folder: Path) -> AsyncIterator[tuple[Store, Ingestion]]:
    """Yield a store and its worker."""
    database = Database("sqlite:", folder)
    try:
        async with opened(folder) as store:
            yield store, Ingestion(Jobs(database), lambda name: store)
    finally:
        await database.aclose()


async def test_a_file_becomes_a_document_and_its_source_is_deleted(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    async with working(tmp_path) as (store, ingestion):
        job = await ingestion.submit("main", "manual.docx", MANUAL, ["machines"])
        assert (job.state, job.done, job.total) == ("queued", 0, 0)
        await ingestion.work_off(progress=lambda job, done, total: seen.append((done, total)))
        ended = await ingestion.jobs.get(job.id)
        assert ended is not None and (ended.state, ended.done, ended.total) == ("done", 700, 700) and ended.finished
        assert seen[0] == (0, 700) and seen[-1] == (700, 700) and seen == sorted(seen) and len(seen) > 2
        (known,) = await store.documents()
        assert (known.name, known.passages, known.tags) == ("manual.docx", 700, ("machines",))
        assert known.media_type.endswith("wordprocessingml.document")
        assert (await store.search("what does lever 77 open", 1))[0].text == "Lever 77 opens flap 77."
        before = await store.stats()
        await ingestion.submit("main", "manual.docx", MANUAL, ["machines"])
        await ingestion.work_off()
        assert await store.stats() == before, "the same file was ingested twice"
        with sqlite3.connect(tmp_path / "dialgraph.db") as rows:
            assert rows.execute("SELECT count(*) FROM knowledge_job WHERE source IS NOT NULL").fetchone() == (0,)
        rows.close()


async def test_an_unreadable_file_is_reported_and_can_be_retried(tmp_path: Path) -> None:
    async with working(tmp_path) as (store, ingestion):
        job = await ingestion.submit("main", "a.pdf", b"%PDF-1.4 broken")
        good = await ingestion.submit("main", "b.txt", b"Lions sleep.")
        await ingestion.work_off()
        failed, done = await ingestion.jobs.get(job.id), await ingestion.jobs.get(good.id)
        assert failed is not None and (failed.state, failed.error) == ("failed", "The file is damaged.")
        assert done is not None and done.state == "done", "one bad file stopped the others"
        assert [known.name for known in await store.documents()] == ["b.txt"]
        assert await ingestion.jobs.retry(job.id) and not await ingestion.jobs.retry(good.id)
        await ingestion.work_off()
        again = await ingestion.jobs.get(job.id)
        assert again is not None and again.state == "failed"
        await ingestion.jobs.forget(job.id)
        assert [one.id for one in await ingestion.jobs.of_store("main")] == [good.id]


async def cancelled_at(part: float, ingestion: Ingestion) -> bool:
    """Run the waiting job and cancel it when this part of it is done; return whether it could be cancelled."""
    cancelling: list[asyncio.Task[bool]] = []

    def cancel(job: Job, done: int, total: int) -> None:
        if done >= part * total > 0 and not cancelling:
            cancelling.append(asyncio.create_task(ingestion.jobs.cancel(job.id)))

    await ingestion.work_off(progress=cancel)
    return await cancelling[0]


async def test_a_job_can_be_cancelled_while_it_waits_or_runs(tmp_path: Path) -> None:
    async with working(tmp_path) as (store, ingestion):
        waiting = await ingestion.submit("main", "a.txt", b"Lions.")
        assert await ingestion.jobs.cancel(waiting.id) and not await ingestion.jobs.cancel(waiting.id)
        await ingestion.work_off()
        for part in (0.01, 1.0):  # at 1.0 the cancellation and the publishing of the document are close together
            running = await ingestion.submit("main", "manual.docx", MANUAL)
            stopped = await cancelled_at(part, ingestion)
            ended = await ingestion.jobs.get(running.id)
            assert ended is not None and ended.state == ("cancelled" if stopped else "done")
            assert (await store.documents() == []) is stopped and await store.verify() == []
            await store.remove(["manual.docx"])


async def test_cancelling_just_before_publishing_keeps_the_document_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(tmp_path) as (store, ingestion):
        job = await ingestion.submit("main", "a.txt", b"Lions.")

        async def cancel(*passages: object) -> None:
            assert await ingestion.jobs.cancel(job.id)

        monkeypatch.setattr(store, "arrived", cancel)  # the last moment before the document is published
        await ingestion.work_off()
        ended = await ingestion.jobs.get(job.id)
        assert ended is not None and ended.state == "cancelled"
        assert await store.documents() == [] and await store.verify() == []


async def test_a_worker_stops_even_while_the_database_is_locked(tmp_path: Path) -> None:
    async with working(tmp_path) as (_, ingestion):
        await ingestion.submit("main", "a.txt", b"Lions.")
        with sqlite3.connect(tmp_path / "dialgraph.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            worker = asyncio.create_task(ingestion.run())
            await asyncio.sleep(0.2)
            worker.cancel()
            await asyncio.wait([worker], timeout=20)
            assert worker.cancelled(), "the worker went on after a database error during its stop"
        other.close()


async def test_the_queue_is_limited(tmp_path: Path) -> None:
    async with working(tmp_path) as (_, ingestion):
        await ingestion.submit("main", "a.txt", b"Lions.")
        with sqlite3.connect(tmp_path / "dialgraph.db") as rows:
            rows.execute(
                "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ?)"
                " INSERT INTO knowledge_job SELECT substr(id, 1, 20) || value, store, document, tags, state, source,"
                " done, total, tries, error, created_at, leased_until, fault FROM knowledge_job, n",
                (MOST_WAITING - 1,),
            )
        rows.close()
        with pytest.raises(QueueFullError, match="1000 files are already waiting"):
            await ingestion.submit("main", "b.txt", b"Zebras.")


async def test_a_job_that_kills_its_worker_each_time_fails(tmp_path: Path) -> None:
    async with working(tmp_path) as (_, ingestion):
        job = await ingestion.submit("main", "a.txt", b"Lions.")
        for _ in range(MOST_TRIES):
            assert await ingestion.jobs.claim() is not None
            assert await ingestion.jobs.claim() is None, "two workers took one job"
            await _let_leases_end(tmp_path)
        assert await ingestion.jobs.claim() is None
        ended = await ingestion.jobs.get(job.id)
        assert ended is not None and ended.state == "failed" and "stopped every time" in ended.error


async def test_a_stopped_worker_leaves_its_job_to_the_next(tmp_path: Path) -> None:
    async with working(tmp_path) as (store, ingestion):
        job = await ingestion.submit("main", "manual.docx", MANUAL)
        begun = asyncio.Event()
        working_off = asyncio.create_task(
            ingestion.work_off(progress=lambda job, done, total: begun.set() if done else None)
        )
        await begun.wait()
        working_off.cancel()
        await asyncio.gather(working_off, return_exceptions=True)
        waiting = await ingestion.jobs.get(job.id)
        assert waiting is not None and waiting.state == "queued"
        running = asyncio.create_task(ingestion.run())
        async with asyncio.timeout(20):
            await until_finished(ingestion.jobs, job.id)
        running.cancel()
        assert (await store.stats()).passages == 700


async def test_a_running_server_finishes_a_job_of_a_killed_command(tmp_path: Path) -> None:
    async with working(tmp_path) as (_, ingestion):
        await ingestion.submit("main", "robots.md", b"The robots of the lobby are called Ada and Grace.")
    async with serving(tmp_path) as served:
        async with asyncio.timeout(20):
            while "Ada" not in (told := read_stream((await served.ask("Who are the robots?", RAG)).body).text):
                assert told
                await asyncio.sleep(0.05)


async def test_removing_a_document_during_ingest_leaves_no_part_of_it(tmp_path: Path) -> None:
    async with working(tmp_path) as (store, ingestion):
        await store.add([Document("manual.docx", "An old manual.")])
        await ingestion.submit("main", "manual.docx", MANUAL)
        removed = False

        def remove(job: Job, done: int, total: int) -> None:
            nonlocal removed
            if done and not removed:
                removed = True
                removing.append(asyncio.create_task(store.remove(["manual.docx"])))

        removing: list[asyncio.Task[int]] = []
        await ingestion.work_off(progress=remove)
        assert await removing[0] == 1
        assert await store.documents() == [] and await store.verify() == []


async def until_finished(jobs: Jobs, job: str) -> None:
    """Wait until the job is finished. Another task runs it."""
    while (found := await jobs.get(job)) is None or not found.finished:  # noqa: ASYNC110 (the database has no event for it)
        await asyncio.sleep(0.05)


async def _let_leases_end(folder: Path) -> None:
    with sqlite3.connect(folder / "dialgraph.db") as rows:
        rows.execute("UPDATE knowledge_job SET leased_until = 1 WHERE state = 'running'")
    rows.close()


async def _killed(folder: Path, operation: str, step: str, nth: int) -> bool:
    """Run the operation in a process; return whether it reached the step and was killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.killed", str(folder), operation, step, str(nth),
        cwd=ROOT, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors.decode()
    return process.returncode != 0


async def _is_whole(folder: Path, operation: str) -> str:
    """Restart, finish the jobs that were cut, and return the version in the store, or `absent`."""
    await _let_leases_end(folder)
    async with working(folder) as (store, ingestion):
        try:
            found = await store.search("manual version1 version2", 100)
        except StoreError:
            found = []
        seen = {passage.text.split()[0] for passage in found}
        assert len(seen) <= 1, f"{operation}: two versions are visible at the same time"
        await ingestion.work_off()
        await store.add([Document("probe.md", "Gnus wander.")])  # every writer removes what a killed one left
        await store.remove(["probe.md"])
        assert await store.verify() == []
        documents = await store.documents()
        assert [known.passages for known in documents] in ([], [600])
        if not documents:
            return "absent"
        texts = {passage.text.split()[0] for passage in await store.search("manual says", 100)}
        assert len(texts) == 1
        return texts.pop()


async def kills(folder: Path, count: int, seed: int) -> Counter[str]:
    """Kill this many times at random steps of ingest, replace and remove; return the kills of each step."""
    chance = random.Random(seed)
    before = folder / "before"
    await change(before, "ingest")
    struck: Counter[str] = Counter()
    at = 0
    while struck.total() < count:
        at += 1
        operation = OPERATIONS[at % len(OPERATIONS)]
        step = min(STEPS, key=lambda step: (struck[step], chance.random()))
        place = folder / f"{at}"
        if operation != "ingest":
            await asyncio.to_thread(shutil.copytree, before, place)
        if await _killed(place, operation, step, chance.choice((1, 1, 1, 2, 3))):
            struck[step] += 1
            expected = {"ingest": {"Version1"}, "replace": {"Version1", "Version2"}, "remove": {"absent", "Version1"}}
            assert await _is_whole(place, operation) in expected[operation], f"{operation}, {step}"
        if at > 20 * count:
            raise AssertionError(f"these steps are never reached: {set(STEPS) - set(struck)}")
        await asyncio.to_thread(shutil.rmtree, place, True)
    return struck


@pytest.mark.long
async def test_kills_leave_only_whole_documents(tmp_path: Path) -> None:
    assert (await kills(tmp_path, 4, seed=1)).total() == 4


@pytest.mark.soak
async def test_two_hundred_kills_leave_only_whole_documents(tmp_path: Path) -> None:
    struck = await kills(tmp_path, 200, seed=2)
    assert min(struck[step] for step in STEPS) >= 5, struck


def test_the_manual_for_the_kills_holds_one_version_only() -> None:
    assert text(1).count(b"Version1") == 600 and b"Version2" not in text(1)
