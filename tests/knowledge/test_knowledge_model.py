"""Knowledge bases against a simple model of them: after every change, stop and restart the rows equal the model."""

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import text

from dialgraph.services.services import OpenServices
from dialgraph.users.accounts.passwords import Passwords
from dialgraph.users.accounts.tokens import Tokens
from dialgraph.users.accounts.users import Users
from knowledge.knowledge_base import UnknownBaseError, UnknownDocumentError, shown
from knowledge.knowledge_bases import KnowledgeBases
from knowledge.open_stores import OpenStores
from knowledge.stores.faiss import FaissStore
from server.settings import Settings
from server.users.user_knowledge import UserKnowledge

WORDS = ("zebra", "walrus", "heron", "lynx")
FILES = st.sampled_from(["a.md", "b.md", "c.txt"])


class Library(RuleBasedStateMachine):
    """Two users and their knowledge bases. Files wait for the worker, and the server may stop at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.users: list[str] = []
        self.bases: dict[str, tuple[str, str]] = {}
        """The owner and the name of each knowledge base."""
        self.there: dict[str, dict[str, str]] = {}
        """For each knowledge base: the ids of its documents, and the word in each."""
        self.waiting: dict[str, tuple[str, str, str]] = {}
        """For each waiting job: its knowledge base, the id of its document, and the word in it."""

    @initialize()
    def begin(self) -> None:
        self.open()
        users = Users(self.services.database, Passwords(), Tokens(b"x" * 32))
        for name in ("ann", "bob"):
            self.users.append(self.run(users.register(name, "correct horse")).id)
            self.create(len(self.users) - 1, name)

    def open(self) -> None:
        self.services = OpenServices(Settings(data_dir=Path(self.folder.name), sample_handbook=False))
        self.stores = OpenStores.of(self.services)
        self.rows = KnowledgeBases(self.services.database)
        self.knowledge = UserKnowledge(self.stores, self.rows)

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def pick(self, choice: int) -> str | None:
        return sorted(self.bases)[choice % len(self.bases)] if self.bases else None

    @rule(user=st.integers(0, 1), name=st.text("ab", min_size=1, max_size=5))
    def create(self, user: int, name: str) -> None:
        base = self.run(self.rows.create(self.users[user], name, "main"))
        self.bases[base.id] = (self.users[user], name)
        self.there[base.id] = {}

    @rule(choice=st.integers(0), name=st.text("cd", min_size=1, max_size=5))
    def rename(self, choice: int, name: str) -> None:
        if (base := self.pick(choice)) is not None:
            owner, _ = self.bases[base]
            self.run(self.rows.rename(owner, base, name))
            self.bases[base] = (owner, name)

    @rule(choice=st.integers(0), file=FILES, word=st.sampled_from(WORDS), at_once=st.booleans())
    def bring(self, choice: int, file: str, word: str, at_once: bool) -> None:
        if (base := self.pick(choice)) is not None:
            source = f"# About\n\nThe {word} is an animal. {len(self.waiting)}".encode()
            job = self.run(self.knowledge.take_in(self.bases[base][0], base, file, source))
            self.waiting[job.id] = (base, shown(job.document)[0], word)
            if at_once:
                self.work_off()

    def work_off(self) -> None:
        self.run(self.stores.ingestion.work_off())
        for base, document, word in self.waiting.values():
            self.there[base][document] = word
        self.waiting.clear()

    @rule(moment=st.integers(0, 8))
    def work_off_and_be_cut(self, moment: int) -> None:
        """Stop the worker after this many hundredths of a second, as a stopping server does."""

        async def cut() -> None:
            working = asyncio.create_task(self.stores.ingestion.work_off())
            await asyncio.wait([working], timeout=moment / 100)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

        self.run(cut())
        for number, (base, document, word) in list(self.waiting.items()):
            job = self.run(self.stores.ingestion.jobs.get(number))
            assert job is not None and job.state in ("queued", "done"), job
            if job.state == "done":
                self.there[base][document] = word
                del self.waiting[number]

    @rule(choice=st.integers(0))
    def delete_document(self, choice: int) -> None:
        base = self.pick(choice)
        known = {**self.there.get(base or "", {})}
        known |= {document: word for place, document, word in self.waiting.values() if place == base}
        if base is None or not known:
            return
        document = sorted(known)[choice % len(known)]
        self.run(self.knowledge.delete_document(self.bases[base][0], base, document))
        self.there[base].pop(document, None)
        self.waiting = {number: one for number, one in self.waiting.items() if one[:2] != (base, document)}
        with pytest.raises(UnknownDocumentError):
            self.run(self.knowledge.delete_document(self.bases[base][0], base, document))

    @rule(choice=st.integers(0), moment=st.integers(0, 4))
    def delete_base(self, choice: int, moment: int) -> None:
        """Delete a base. The client leaves after `moment` hundredths of a second; the deletion goes on."""
        if (base := self.pick(choice)) is None:
            return
        owner, _ = self.bases.pop(base)
        del self.there[base]
        self.waiting = {number: one for number, one in self.waiting.items() if one[0] != base}

        async def leave() -> None:
            deleting = asyncio.create_task(self.knowledge.delete_base(owner, base))
            await asyncio.wait([deleting], timeout=moment / 100)
            deleting.cancel()
            with suppress(asyncio.CancelledError):
                await deleting
            for _ in range(6000):
                if base not in {one.id for one in (*await self.rows.page(owner), *await self.rows.hidden())}:
                    return
                await asyncio.sleep(0.01)
            raise AssertionError("the deletion did not go on")

        self.run(leave())

    @rule()
    def start_again(self) -> None:
        self.run(self.services.aclose())
        self.open()
        self.run(self.knowledge.go_on())

    @invariant()
    def rows_are_the_model(self) -> None:
        for user in self.users:
            mine = {(base.id, base.name) for base in self.run(self.rows.page(user))}
            assert mine == {(base, name) for base, (owner, name) in self.bases.items() if owner == user}
        for base, (owner, _) in self.bases.items():
            listed = self.run(self.knowledge.documents(owner, base))
            waiting = {document for place, document, _ in self.waiting.values() if place == base}
            assert {one.id for one in listed if one.state == "live"} | waiting == set(self.there[base]) | waiting
            store = self.run(self.knowledge.store(owner, base))
            for word in WORDS:
                found = {shown(passage.document)[0] for passage in self.run(store.search(word, 10))}
                assert found == {document for document, held in self.there[base].items() if held == word}, word
            other = next(user for user in self.users if user != owner)
            with pytest.raises(UnknownBaseError):
                self.run(self.knowledge.store(other, base))

    def teardown(self) -> None:
        for base, (owner, _) in self.bases.items():
            store = self.run(self.knowledge.store(owner, base))
            assert isinstance(store, FaissStore) and self.run(store.verify()) == []
            self.run(self.knowledge.delete_base(owner, base))
        self.run(self.left())
        self.run(self.services.aclose())
        self.runner.close()
        self.folder.cleanup()

    async def left(self) -> None:
        """Check that no row of deleted objects is left."""
        tables = ("knowledge_base", "knowledge_store", "knowledge_document", "knowledge_passage", "knowledge_job")
        async with self.services.database.reading() as connection:
            for table in tables:
                assert await connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table


Library.TestCase.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLibrary = Library.TestCase
