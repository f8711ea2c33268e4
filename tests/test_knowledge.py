"""The store: what is put in is found, in two languages; nothing is half there; damage is noticed."""

import asyncio
from pathlib import Path

import numpy as np
import orjson
import pytest

from knowledge.documents import MAX_PASSAGE_CHARACTERS, pieces, read_documents
from knowledge.embed import HashingEmbedder
from knowledge.faiss import FaissStore
from knowledge.store import Document, StoreError, open_store

SAMPLE = Path(__file__).parent.parent / "knowledge" / "sample"


def store(tmp_path: Path, **options: object) -> FaissStore:
    """A store in this folder."""
    return FaissStore("main", tmp_path / "main", **options)  # type: ignore[arg-type]


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
async def test_the_sample_handbook_answers(tmp_path: Path, question: str, held: str) -> None:
    found = await store(tmp_path, sample=SAMPLE).search(question, 3)
    assert any(held in passage.text for passage in found)
    assert all(0 < passage.score <= 1 for passage in found)
    assert [passage.score for passage in found] == sorted((passage.score for passage in found), reverse=True)


@pytest.mark.parametrize("question", ["", "   ", "?!", "Quantum chromodynamics", "谁发明了电话"])
async def test_nothing_speaks_to_what_is_not_there(tmp_path: Path, question: str) -> None:
    assert await store(tmp_path, sample=SAMPLE).search(question, 3) == []


async def test_a_document_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    one = store(tmp_path)
    assert await one.add([Document("a.md", "Lions sleep at noon."), Document("b.md", "Zebras graze.")]) == 2
    await one.add([Document("a.md", "Lions hunt at night.\n\nThey roar.")])
    assert [passage.text for passage in await one.search("lions", 5)] == ["Lions hunt at night."]
    assert [passage.text for passage in await one.search("zebras", 5)] == ["Zebras graze."]


async def test_what_was_put_in_is_there_after_a_restart_and_for_another_process(tmp_path: Path) -> None:
    writer, reader = store(tmp_path), store(tmp_path)
    assert await reader.search("lions", 5) == []
    await writer.add([Document("a.md", "Lions sleep.")])
    assert len(await reader.search("lions", 5)) == 1, "a running reader did not see the new generation"
    await writer.add([Document("b.md", "Lions roar.")])
    assert len(await reader.search("lions", 5)) == 2
    assert len(await store(tmp_path).search("lions", 5)) == 2


async def test_searches_run_while_documents_come_in(tmp_path: Path) -> None:
    one = store(tmp_path)
    await one.add([Document("base.md", "Lions sleep.")])
    done = asyncio.Event()

    async def search() -> int:
        count = 0
        while not done.is_set():
            found = await one.search("lions", 50)
            assert len(found) >= 1
            count += 1
            await asyncio.sleep(0)
        return count

    searching = asyncio.create_task(search())
    for at in range(10):
        await one.add([Document(f"{at}.md", f"Lions number {at}.")])
    done.set()
    assert await searching > 10
    assert len(await one.search("lions", 50)) == 11


async def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """Several stores on one folder, as several processes have them; each begins with the sample too."""
    stores = [store(tmp_path, sample=SAMPLE) for _ in range(4)]
    await asyncio.gather(*(one.search("dogs", 1) for one in stores))
    await asyncio.gather(*(one.add([Document(f"{at}.md", f"Lions number {at}.")]) for at, one in enumerate(stores)))
    found = await store(tmp_path).search("lions", 50)
    assert sorted(passage.document for passage in found) == ["0.md", "1.md", "2.md", "3.md"]
    assert await store(tmp_path).search("sauna", 1)


async def test_adding_is_all_or_nothing(tmp_path: Path) -> None:
    one = store(tmp_path)
    with pytest.raises(StoreError, match="store 'main': document 'empty.md' holds no text."):
        await one.add([Document("a.md", "Lions."), Document("empty.md", "# Only a heading")])
    assert await one.search("lions", 5) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "other embedder"])
async def test_a_damaged_index_is_noticed_and_built_again(tmp_path: Path, damage: str) -> None:
    one = store(tmp_path)
    await one.add([Document("a.md", "Lions sleep."), Document("b.md", "Zebras graze.")])
    (index,) = (tmp_path / "main").glob("vectors-*.faiss")
    data = bytearray(index.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 0x55
        index.write_bytes(data)
    elif damage == "truncate":
        index.write_bytes(data[:-100])
    elif damage == "remove":
        index.unlink()
    else:
        manifest = orjson.loads((tmp_path / "main" / "manifest.json").read_bytes())
        (tmp_path / "main" / "manifest.json").write_bytes(orjson.dumps({**manifest, "embedder": "older"}))
    found = await store(tmp_path).search("zebras", 5)
    assert [passage.text for passage in found] == ["Zebras graze."]


@pytest.mark.parametrize("file", ["passages-000001.jsonl", "manifest.json"])
async def test_damaged_passages_are_an_error_and_never_an_empty_store(tmp_path: Path, file: str) -> None:
    await store(tmp_path).add([Document("a.md", "Lions sleep.")])
    path = tmp_path / "main" / file
    path.write_bytes(path.read_bytes()[:-5] + b"?????")
    with pytest.raises(StoreError, match="store 'main': its"):
        await store(tmp_path).search("lions", 5)


def test_passages_follow_headings_paragraphs_and_sentences() -> None:
    long = "This sentence has about forty letters. " * 40
    text = f"# Hotel\nWelcome.\n\n## Pool\nOpen at 8.\nTowels are free.\n\n### Depth\n\nTwo metres.\n\n## Bar\n{long}"
    found = list(pieces(text))
    assert [(piece.heading, piece.text) for piece in found[:3]] == [
        ("Hotel", "Welcome."),
        ("Hotel › Pool", "Open at 8. Towels are free."),
        ("Hotel › Pool › Depth", "Two metres."),
    ]
    assert all(piece.heading == "Hotel › Bar" for piece in found[3:])
    assert all(len(piece.text) <= MAX_PASSAGE_CHARACTERS and piece.text.endswith(".") for piece in found)
    assert " ".join(piece.text for piece in found[3:]) == long.strip()


def test_documents_are_read_from_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.md").write_text("A", encoding="utf-8")
    (tmp_path / "sub" / "b.txt").write_bytes(b"\xef\xbb\xbfB")
    (tmp_path / "c.exe").write_bytes(b"MZ")
    assert [(one.name, one.text) for one in read_documents([tmp_path])] == [("a.md", "A"), ("sub/b.txt", "B")]
    assert [one.name for one in read_documents([tmp_path / "a.md"])] == ["a.md"]
    for path, sentence in ((tmp_path / "none", "does not exist"), (tmp_path / "c.exe", "Accepted: .md, .txt.")):
        with pytest.raises(StoreError, match=sentence):
            read_documents([path])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.md").write_text("A2", encoding="utf-8")
    with pytest.raises(StoreError, match="Two documents are named 'a.md'. Index their common folder, or rename one."):
        read_documents([tmp_path / "a.md", tmp_path / "other"])
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(StoreError, match="'bad.txt' is not UTF-8 text."):
        read_documents([tmp_path / "bad.txt"])


def test_vectors_are_the_same_in_every_process() -> None:
    vectors = HashingEmbedder().passages(["Lions sleep", "狮子睡觉"])
    assert vectors.shape == (2, HashingEmbedder.dimension)
    assert np.flatnonzero(vectors[0]).tolist() == [684, 3135]
    assert np.count_nonzero(vectors[1]) == 7


def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="store 'x': no engine for 'redis'. Accepted: faiss."):
        open_store("x", "redis://y", tmp_path)
