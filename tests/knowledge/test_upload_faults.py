"""Uploads that are broken, slow or many at the same time, and deletions during an upload."""

import asyncio
from pathlib import Path

from sqlalchemy import text as sql

from tests.server.test_backend_api import files_with
from tests.server.test_users_api import delete, login
from tests.support.accounts import Somebody, somebody
from tests.support.serving import serving


async def test_a_refused_file_leaves_no_byte(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ann = await somebody(served)
        base = await ann.base("zebrafish base")
        assert (await ann.upload(base, "bad.pdf", b"%PDF-1.7 zebrafish words")).status == 422
        assert not files_with(tmp_path, "zebrafish words")
        assert (await ann.post("/api/rag/kb/delete", {"kb_id": base})).status == 200
        assert not files_with(tmp_path, "zebrafish")


async def test_two_slow_uploads_of_one_user_delay_nobody_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ann, bob = await somebody(served, "ann"), await somebody(served, "bob")
        base = await bob.base()
        head = {**ann.headers, "content-type": "multipart/form-data; boundary=limit", "content-length": "100000"}
        for _ in range(2):
            connection = await served.connect()
            await connection.send(served.request("/api/rag/doc/upload", b"--limit\r\n", head))
        for _ in range(100):
            if served.state.uploading.total() == 2:
                break
            await asyncio.sleep(0.02)
        assert (await ann.upload(await ann.base(), "a.md", b"# A\n\nText.")).status == 429
        assert (await bob.upload(base, "a.md", b"# A\n\nText.")).status == 200


async def test_at_most_eight_of_fifty_simultaneous_uploads_run(tmp_path: Path) -> None:
    async with serving(tmp_path, rates={"upload": ""}) as served:
        users = [await somebody(served, f"user-{at}") for at in range(10)]
        bases = [await who.base() for who in users]
        text = b"# Zebras\n\n" + b"They are striped. " * 20_000
        sending = [users[at % 10].upload(bases[at % 10], f"{at}.md", text) for at in range(50)]
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, served.state.uploading.total())
                await asyncio.sleep(0.001)

        watching = asyncio.create_task(watch())
        replies = await asyncio.gather(*sending)
        watching.cancel()
        statuses = [reply.status for reply in replies]
        assert set(statuses) <= {200, 429} and statuses.count(200) >= 8 and most <= 8
        assert served.state.uploading.total() == 0


async def test_deleting_a_knowledge_base_during_uploads_leaves_nothing(tmp_path: Path, database: str) -> None:
    text = "".join(f"# Part {at}\n\nZebrafish number {at}.\n\n" for at in range(1500)).encode()
    async with serving(tmp_path, database_url=database) as served:
        ann, _ = await login(served)
        base = await ann.base()
        coming = [asyncio.create_task(ann.upload(base, f"{at}.md", text)) for at in range(2)]
        await asyncio.sleep(0.5)
        assert (await delete(ann, f"/v1/knowledge-bases/{base}")).status == 204
        assert {reply.status for reply in await asyncio.gather(*coming)} <= {200, 404, 422, 503}
        async with served.state.services.database.reading() as connection:
            passages = "SELECT count(*) FROM knowledge_passage WHERE text LIKE 'Zebrafish%'"
            jobs = "SELECT count(*) FROM knowledge_job"
            assert [await connection.scalar(sql(wanted)) for wanted in (passages, jobs)] == [0, 0]
        if database == "sqlite:":
            assert not files_with(tmp_path, "Zebrafish number 1499")


async def test_a_knowledge_base_whose_embedder_is_gone_can_be_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path, embedders={"extra": "hashing:"}) as served:
        ann, _ = await login(served)
        base = (await ann.post("/v1/knowledge-bases", {"name": "x", "embedder": "extra"})).json()["id"]
        assert (await ann.upload(base, "a.md", b"# Zebras\n\nThey are striped.")).status == 200
    async with serving(tmp_path) as served:
        ann = Somebody(served, ann.token)
        refused = await ann.post(f"/v1/knowledge-bases/{base}/search", {"query": "Zebras"})
        assert (refused.status, refused.error["code"]) == (409, "unknown_embedder")
        assert (await delete(ann, f"/v1/knowledge-bases/{base}")).status == 204
    assert not files_with(tmp_path, "striped")
