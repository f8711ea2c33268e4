"""The store: documents are found in two languages, are never half visible, and damage is noticed."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from dialgraph.passages import MAX_TOP_K, Filter, QueryError, StoreError
from dialgraph.storage.database import Database
from knowledge.document import Document, Piece
from knowledge.embedders.embed import HashingEmbedder, Vectors
from knowledge.store import Store, StoreConfig, open_store
from knowledge.stores.faiss import FaissStore
from knowledge.stores.pgvector import PgvectorStore
from tests.support.postgres import new_database
from tests.support.stores import SAMPLE, opened

ANIMALS = [
    Document("lions.md", "# Lions\n\nLions sleep at noon.\n\n## Food\n\nLions hunt gazelles at dawn.", tags=("cats",)),
    Document("zebras.md", "Zebras graze in the morning.", tags=("grass", "stripes")),
    Document("xiongmao.md", "大熊猫每天吃竹子。大熊猫住在四川。", tags=("grass",)),
]


LANGCHAIN = "langchain:tests.support.langchain_stores:in_memory"
COMMUNITY = "langchain:tests.support.langchain_stores:of_community"


@pytest.fixture(params=["faiss:", "pgvector:", LANGCHAIN, pytest.param(COMMUNITY, marks=pytest.mark.community)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield an empty store of each engine."""
    database = new_database() if request.param == "pgvector:" else "sqlite:"
    async with opened(tmp_path, request.param, database=database) as store:
        yield store


async def texts(store: Store, question: str, top_k: int = 5, only: Filter | None = None) -> list[str]:
    """Return the texts of the passages that a question finds."""
    return [passage.text for passage in await store.search(question, top_k, only)]


def files(folder: Path) -> list[Path]:
    """Return every file in the folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


# The contract that every engine keeps.


async def test_a_passage_names_its_document_heading_and_position(store: Store) -> None:
    assert await store.add(ANIMALS) == 4
    (passage, *_) = await store.search("What do lions hunt?", 3)
    assert (passage.text, passage.document, passage.heading) == (
        "Lions hunt gazelles at dawn.",
        "lions.md",
        "Lions › Food",
    )
    assert ANIMALS[0].text[passage.start : passage.end].strip() == passage.text
    assert 0 < passage.score <= 1 and passage.page is None
    assert await texts(store, "熊猫吃什么？") == ["大熊猫每天吃竹子。大熊猫住在四川。"]


async def test_scores_are_sorted_and_between_zero_and_one(store: Store) -> None:
    await store.add([Document(f"{at}.md", f"Lions sleep. {'Zebras graze here. ' * at}") for at in range(6)])
    scores = [passage.score for passage in await store.search("Where do lions sleep?", 6)]
    assert len(scores) == 6 and scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


async def test_only_changed_content_is_written(store: Store) -> None:
    await store.add(ANIMALS)
    before = await store.stats()
    assert await store.add(ANIMALS) == 4
    assert (await store.stats()).generation == before.generation, "the same content was written again"
    assert await store.add([Document("zebras.md", "Zebras run.\n\nZebras kick.")]) == 1
    assert await texts(store, "zebras") == ["Zebras run.\nZebras kick."]
    assert (await store.stats()).documents == 3


async def test_replace_removes_all_other_documents(store: Store) -> None:
    await store.add(ANIMALS)
    await store.replace([ANIMALS[1], Document("gnus.md", "Gnus wander.")])
    assert [known.name for known in await store.documents()] == ["gnus.md", "zebras.md"]
    assert await texts(store, "lions hunt gazelles") == []
    assert await texts(store, "gnus wander") == ["Gnus wander."]


async def test_a_removed_document_is_not_found(store: Store) -> None:
    await store.add(ANIMALS)
    assert await store.remove(["lions.md", "unknown.md"]) == 1
    assert await texts(store, "What do lions hunt?") == []
    assert await texts(store, "熊猫吃什么？")
    assert (await store.stats()).documents == 2 and (await store.stats()).passages == 2


async def test_a_filter_selects_by_document_tag_and_language(store: Store) -> None:
    await store.add([*ANIMALS, Document("more.md", "Lions roar at night.")])
    assert await texts(store, "lions", only=Filter(documents=("more.md",))) == ["Lions roar at night."]
    assert await texts(store, "lions", only=Filter(tags=("cats",))) == [
        "Lions sleep at noon.",
        "Lions hunt gazelles at dawn.",
    ]
    assert await texts(store, "zebras graze", only=Filter(tags=("grass", "stripes"))) == [
        "Zebras graze in the morning."
    ]
    assert await texts(store, "zebras graze", only=Filter(tags=("grass", "cats"))) == []
    assert await texts(store, "lions", only=Filter(language="zh")) == []
    assert await texts(store, "熊猫", only=Filter(language="zh"))


async def test_documents_are_listed(store: Store) -> None:
    await store.add(ANIMALS)
    first = (await store.documents())[0]
    assert (first.name, first.passages, first.language, first.tags) == ("lions.md", 2, "en", ("cats",))
    assert first.characters == len(ANIMALS[0].text) and first.added_at > 1_700_000_000
    assert [known.language for known in await store.documents()] == ["en", "zh", "en"]


@pytest.mark.parametrize(
    ("question", "top_k", "sentence"),
    [
        ("", 3, "The question is empty."),
        ("  \n ", 3, "The question is empty."),
        ("x" * 4001, 3, "The question has 4001 characters. Accepted: at most 4000."),
        ("lions", 0, f"top_k is 0. Accepted: 1 to {MAX_TOP_K}."),
        ("lions", -1, f"top_k is -1. Accepted: 1 to {MAX_TOP_K}."),
    ],
)
async def test_invalid_questions_are_refused(store: Store, question: str, top_k: int, sentence: str) -> None:
    await store.add(ANIMALS)
    with pytest.raises(QueryError) as error:
        await store.search(question, top_k)
    assert str(error.value) == sentence


async def test_a_document_has_the_language_of_most_of_its_text(store: Store) -> None:
    await store.add(
        [Document("m.md", "# Aroma 300 User Manual\n\n大熊猫每天吃竹子。\n\n大熊猫住在四川，四川的山上有很多竹子。")]
    )
    assert [known.language for known in await store.documents()] == ["zh"]


async def test_an_unknown_code_does_not_find_a_similar_one(store: Store) -> None:
    text = "# Errors\n\n## E3\n\nError E3 means: the tank is empty.\n\n## E4\n\nError E4 means: the unit is missing."
    await store.add([Document("errors.md", text)])
    assert (await texts(store, "What does error E4 mean?"))[0] == "Error E4 means: the unit is missing."
    assert await texts(store, "What does error E5 mean?") == []


@pytest.mark.parametrize(
    "question",
    ["?!", "%_'\";--", '" OR tokens:*', "NEAR(a b)", "lions AND NOT", "a\x00b", "💡", "knowledge_words", "* *"],
)
async def test_a_question_is_never_read_as_query_syntax(store: Store, question: str) -> None:
    await store.add(ANIMALS)
    assert len(await store.search(question, 10**9)) <= 4


@pytest.mark.parametrize("question", ["Quantum chromodynamics", "谁发明了电话", "How do I reset my router?"])
async def test_a_question_about_something_else_finds_nothing(store: Store, question: str) -> None:
    await store.add(ANIMALS)
    assert await store.search(question, 3) == []


async def test_a_misspelled_word_is_found(store: Store) -> None:
    await store.add(ANIMALS)
    assert (await texts(store, "what do lions do with gazzeles"))[0] == "Lions hunt gazelles at dawn."


async def test_a_repeated_question_finds_what_has_changed(store: Store) -> None:
    await store.add(ANIMALS)
    first = await store.search("What do lions hunt?", 3)
    assert (await store.search("lions: what do they hunt", 3))[0].text == first[0].text
    assert len(await store.search("What do lions hunt?", 1)) == 1
    assert await store.search("What do lions hunt?", 3, Filter(documents=("zebras.md",))) == []
    await store.add([Document("lions.md", "Lions hunt buffaloes.")])
    assert await texts(store, "What do lions hunt?") == ["Lions hunt buffaloes."]
    await store.remove(["lions.md"])
    assert await texts(store, "What do lions hunt?") == []


async def test_adding_is_all_or_nothing(store: Store) -> None:
    with pytest.raises(StoreError, match="store 'main': document 'empty.md' holds no text."):
        await store.add([Document("a.md", "Lions."), Document("empty.md", " \n ")])
    with pytest.raises(StoreError, match="store 'main': two documents are named 'a.md'."):
        await store.add([Document("a.md", "Lions."), Document("a.md", "Zebras.")])
    assert await store.search("lions", 5) == [] and (await store.stats()).documents == 0


async def test_an_export_can_be_added_again(store: Store) -> None:
    await store.add(ANIMALS)
    exported = [document async for document in store.export()]
    found = await store.search("What do lions hunt?", 3)
    await store.remove([document.name for document in ANIMALS])
    await store.add(exported)
    assert await store.search("What do lions hunt?", 3) == found
    assert [known.tags for known in await store.documents()] == [("cats",), ("grass",), ("grass", "stripes")]


async def test_verify_reports_nothing_for_a_healthy_store(store: Store) -> None:
    await store.add(ANIMALS)
    await store.add([Document("lions.md", "Lions yawn.")])
    assert await store.verify() == []
    assert await store.rebuild() == 3
    assert await store.verify() == [] and await texts(store, "who yawns: lions?") == ["Lions yawn."]


async def test_a_search_during_an_add_never_sees_half_a_document(store: Store) -> None:
    await store.add([Document("base.md", "Lions sleep.")])
    done = asyncio.Event()

    async def search() -> int:
        count = 0
        while not done.is_set():
            found = [passage.document for passage in await store.search("lions", 100)]
            assert all(found.count(name) == 12 for name in set(found) - {"base.md"}), "a search saw half a document"
            count += 1
            await asyncio.sleep(0)
        return count

    searching = asyncio.create_task(search())
    for at in range(8):
        text = "\n\n".join(f"# Chapter {part}\n\nLions of number {at}, part {part}." for part in range(12))
        await store.add([Document(f"{at % 4}.md", text)])
    done.set()
    assert await searching > 8


@pytest.mark.parametrize("proposes_up_to", [0, 10_000])
async def test_a_document_that_is_being_added_displaces_no_result(store: Store, proposes_up_to: int) -> None:
    if isinstance(store, FaissStore | PgvectorStore):
        store.embedder.proposes_up_to = proposes_up_to  # in a large store only words propose candidates
    await store.add([Document("old.md", "Lions sleep in caves at noon.")])
    found: list[list[str]] = []

    def look(done: int) -> None:
        looking.append(asyncio.create_task(texts(store, "Do lions sleep in caves at night?", 100)))

    looking: list[asyncio.Task[list[str]]] = []
    pieces = tuple(Piece(f"Lions sleep in caves at night {at}.") for at in range(600))
    await store.add([Document("new.md", pieces=pieces)], look)
    found = await asyncio.gather(*looking)
    assert len(found) > 1 and all("Lions sleep in caves at noon." in one for one in found[:-1])


async def test_an_embedder_of_another_dimension_can_replace_the_old_one(store: Store, tmp_path: Path) -> None:
    if not isinstance(store, FaissStore | PgvectorStore):
        return
    await store.add(ANIMALS)
    await store.search("lions", 1)

    class Wide(HashingEmbedder):
        name, dimension, from_units = "wide", 300, ""

        async def passages(self, texts: Sequence[str]) -> Vectors:
            return np.pad(await super().passages(texts), ((0, 0), (0, 44)))

        async def question(self, text: str) -> Vectors:
            return np.pad(await super().question(text), (0, 44))

    store.embedder = Wide()
    assert await texts(store, "What do lions hunt?", 1) == ["Lions hunt gazelles at dawn."]
    looking = []
    await store.rebuild(lambda done: looking.append(asyncio.create_task(texts(store, "zebras"))))
    assert all(one == ["Zebras graze in the morning."] for one in await asyncio.gather(*looking))
    assert await texts(store, "What do lions hunt?", 1) == ["Lions hunt gazelles at dawn."]
    assert await store.add(ANIMALS) == 4 and (await store.stats()).passages == 4


# What LangChain's stores and retrievers add to the contract.


async def test_older_documents_of_a_langchain_store_are_found_too(tmp_path: Path) -> None:
    async with opened(tmp_path, "langchain:tests.support.langchain_stores:filled") as store:
        (found,) = await store.search("Lions sleep at noon", 3)
        assert (found.text, found.document, found.page) == ("Lions sleep at noon.", "zoo.pdf", 3) and found.score > 0.9
        await store.add([Document("mine.md", "Zebras graze.")])
        assert (await texts(store, "zebras graze"))[0] == "Zebras graze."


async def test_a_retriever_can_only_be_searched(tmp_path: Path) -> None:
    async with opened(tmp_path, "langchain:tests.support.langchain_stores:retriever") as store:
        found = await store.search("anything", 3)
        assert [(one.text, one.document, one.score) for one in found] == [("First.", "a", 1.0), ("Second.", "b", 0.5)]
        with pytest.raises(StoreError, match="is a retriever: it can be searched"):
            await store.add(ANIMALS)
        assert await store.documents() == []


@pytest.mark.parametrize(
    "name", ["tests.nothing:x", "tests.support.langchain_stores:nothing", "tests.support.langchain_stores:words"]
)
def test_an_unknown_langchain_name_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"store 'main': {name}"):
        open_store(StoreConfig("main", f"langchain:{name}", Database("sqlite:", tmp_path), tmp_path, HashingEmbedder()))


# What only the embedded store promises.


@pytest.mark.parametrize(
    ("question", "held"),
    [
        ("When is breakfast?", "from 7 to 10:30"),
        ("What is the wifi password?", "printed on your key card"),
        ("how much does parking cost", "18 euros a night"),
        ("Can I cancel my booking?", "until 6 p.m."),
        ("早餐几点开始？", "早上七点"),
        ("无线网络的密码是什么？", "房卡"),
        ("停车场多少钱一晚", "十八欧元"),
        ("可以带宠物吗", "猫和狗"),
    ],
)
async def test_the_sample_handbook_answers_common_questions(tmp_path: Path, question: str, held: str) -> None:
    async with opened(tmp_path, sample=SAMPLE) as store:
        assert any(held in passage.text for passage in await store.search(question, 3))


async def test_documents_are_visible_to_other_processes_and_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as writer, opened(tmp_path) as reader:
        assert await texts(reader, "lions") == []
        await writer.add([Document("a.md", "Lions sleep.")])
        assert await texts(reader, "lions") == ["Lions sleep."], "a running reader did not see the change"
        await writer.add([Document("b.md", "Lions roar.")])
        assert len(await texts(reader, "lions")) == 2
    async with opened(tmp_path) as again:
        assert len(await texts(again, "lions")) == 2


async def test_simultaneous_writers_lose_nothing(tmp_path: Path) -> None:
    """Open several stores on one database, as several processes do. Each one starts with the sample too."""
    async with (
        opened(tmp_path, sample=SAMPLE) as one,
        opened(tmp_path, sample=SAMPLE) as two,
        opened(tmp_path, sample=SAMPLE) as three,
    ):
        stores = [one, two, three]
        await asyncio.gather(*(store.search("dogs", 1) for store in stores))
        await asyncio.gather(*(store.add([Document(f"{at}", f"Lions, {at}.")]) for at, store in enumerate(stores)))
        assert sorted(passage.document for passage in await one.search("lions", 50)) == ["0", "1", "2"]
        assert await two.search("Is there a sauna?", 1)
        assert (await three.stats()).documents == 5


async def test_stores_in_one_database_do_not_see_each_other(tmp_path: Path) -> None:
    async with opened(tmp_path, name="one") as one, opened(tmp_path, name="two") as two:
        await one.add(ANIMALS)
        await two.add([Document("lions.md", "Lions in the other store.")])
        assert await texts(two, "lions") == ["Lions in the other store."]
        assert await one.remove(["lions.md"]) == 1
        assert await texts(two, "lions") == ["Lions in the other store."]


async def test_cancelled_transactions_leave_the_database_unlocked(tmp_path: Path) -> None:
    """A caller who hangs up must not stop every other writer."""
    database = Database("sqlite:", tmp_path)
    await database.open()

    async def ask() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("SELECT name FROM sqlite_master"))

    def write() -> None:
        other = sqlite3.connect(tmp_path / "dialgraph.db", timeout=0.5, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
        finally:
            other.close()

    chance = random.Random(5)
    for _ in range(300):
        asking = asyncio.create_task(ask())
        await asyncio.sleep(chance.uniform(0, 0.004))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.to_thread(write)
    await database.aclose()


async def test_a_cancelled_writer_cleans_up_before_the_next_one_begins(tmp_path: Path) -> None:
    sweeping = most = 0
    begun = asyncio.Event()

    class Slow(FaissStore):
        async def forgetting(self, ids: list[int]) -> None:
            nonlocal sweeping, most
            sweeping += 1
            begun.set()
            most = max(most, sweeping)
            await asyncio.sleep(0.2)
            sweeping -= 1

    async with opened(tmp_path) as store:
        assert isinstance(store, FaissStore)
        slow = Slow(StoreConfig("main", "faiss:", store.database, tmp_path / "knowledge", HashingEmbedder()))
        await slow.add([Document("a.md", "Lions sleep.")])
        changing = asyncio.create_task(slow.add([Document("a.md", "Lions roar.")]))
        async with asyncio.timeout(5):
            await begun.wait()
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        assert sweeping == 0, "the lock was released during the cleanup"
        await slow.add([Document("b.md", "Zebras graze.")])
        assert most == 1 and await slow.verify() == []
        await slow.aclose()


async def test_a_cancelled_change_does_not_harm_the_next_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        big = tuple(Piece(f"Lions, part {at}.") for at in range(600))
        for at in range(4):
            await store.add([Document("big.md", pieces=big[at:])])
            changing = asyncio.create_task(store.add([Document("big.md", pieces=big[: 500 - at])]))
            await asyncio.sleep(0.1 + at * 0.03)
            changing.cancel()
            await asyncio.gather(changing, return_exceptions=True)
            await store.add([Document(f"next{at}.md", "Zebras graze.")])
            assert await store.verify() == []


async def test_a_removed_document_leaves_no_byte(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.add([*ANIMALS, Document("secret.md", "The canary word is quetzalcoatlus.")])
        await store.search("quetzalcoatlus", 1)
        await store.remove(["secret.md"])
        left = [path.name for path in files(tmp_path) if b"quetzalcoatlus" in path.read_bytes()]
        assert left == []


async def test_another_embedder_needs_a_rebuild_but_search_by_words_works(tmp_path: Path) -> None:
    class Other(HashingEmbedder):
        name = "other-256"

    async with opened(tmp_path) as store:
        await store.add(ANIMALS)
    async with opened(tmp_path, embedder=Other()) as store:
        assert await texts(store, "What do lions hunt?", 1) == ["Lions hunt gazelles at dawn."]
        with pytest.raises(StoreError, match=r"indexed with 'hashing-256-3'.*Run `dialgraph knowledge rebuild"):
            await store.add([Document("b.md", "Gnus.")])
        assert await store.rebuild() == 4
        assert await store.add([Document("b.md", "Gnus.")]) == 1
        assert (await store.stats()).embedder == "other-256"


async def test_a_killed_writer_leaves_nothing_visible(tmp_path: Path) -> None:
    """Set the rows as after a kill: half of a document is written and not published."""
    async with opened(tmp_path) as store:
        await store.add(ANIMALS)
        with sqlite3.connect(tmp_path / "dialgraph.db") as rows:
            rows.execute("UPDATE knowledge_document SET live = 0 WHERE name = 'lions.md'")
            rows.execute("UPDATE knowledge_store SET generation = generation + 1")
        rows.close()
        assert await texts(store, "What do lions hunt?") == []
        assert await store.verify() == [
            "store 'main': 2 passages belong to no visible document.",
            "store 'main': it counts 4 passages and holds 2.",
        ]
        await store.add([Document("new.md", "Gnus wander.")])
        assert await store.verify() == []


def segment_of(folder: Path) -> Path:
    """Return the file of vectors of the store `main`."""
    (file,) = (folder / "knowledge" / "main").glob("vectors-*.faiss")
    return file


async def many(store: Store) -> None:
    """Add enough passages that their vectors are written to a file."""
    await store.add(
        [Document("many.md", pieces=tuple(Piece(f"Animal {at} is called a{at * 7919:x}.") for at in range(2100)))]
    )
    await store.search("animal", 1)
    assert isinstance(store, FaissStore)
    await store.settled()


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove", "other store", "manifest"])
async def test_a_damaged_file_of_vectors_is_noticed_and_rebuilt(tmp_path: Path, damage: str) -> None:
    async with opened(tmp_path) as store:
        await many(store)
        before = await store.search("aminal 77", 5)
    file = segment_of(tmp_path)
    whole = file.read_bytes()
    if damage == "flip":
        file.write_bytes(whole[:5000] + bytes([whole[5000] ^ 0x40]) + whole[5001:])
    elif damage == "truncate":
        file.write_bytes(whole[:-100])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "remove":
        file.unlink()
    elif damage == "manifest":
        (file.parent / "vectors.json").write_bytes(b"{")
    else:
        for database in files(tmp_path):
            if database.name.startswith("dialgraph.db"):
                database.unlink()
    async with opened(tmp_path) as store:
        if damage == "other store":
            await store.add([Document("one.md", "Lions sleep.")])
            assert await texts(store, "lions") == ["Lions sleep."], "vectors of deleted passages were used"
            return
        assert await store.search("aminal 77", 5) == before
        assert isinstance(store, FaissStore)
        await store.settled()
        assert await store.verify() == []
    assert segment_of(tmp_path).read_bytes() == whole


async def test_vectors_added_after_the_file_was_written_are_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await many(store)
        await store.add([Document("new.md", "Quokkas smile.")])
    async with opened(tmp_path) as store:
        assert await texts(store, "quokkas", 1) == ["Quokkas smile."]
        await store.remove(["many.md"])
        assert await texts(store, "quokkas", 1) == ["Quokkas smile."]
        assert await texts(store, "animal 77") == []
