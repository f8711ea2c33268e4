"""Files of every kind become pieces. Harmful files are refused with a reason and harm only the child process."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialgraph.passages import StoreError
from knowledge.document import Piece
from knowledge.embedders.embed import HashingEmbedder
from knowledge.files import files_at
from knowledge.parse.errors import ParseError
from knowledge.parse.limits import SOURCE_BYTES
from knowledge.parse.run import frames
from knowledge.passages.blocks import of_text
from knowledge.passages.chunk import MOST_TOKENS, pieces_of, token_count
from tests.support.accounts import somebody
from tests.support.files import assembled, docx, package, paragraph, pdf, pptx, relations, word_table, xlsx
from tests.support.serving import serving
from tests.support.upstream import upstream
from tests.support.wire import read_stream


async def read(data: bytes, name: str = "file") -> tuple[str, list[Piece]]:
    """Read a file; return its kind and its pieces."""
    kind, pieces = "", []
    async for frame in frames(data, name, from_units=HashingEmbedder.from_units):
        kind = frame.kind or kind
        assert all(one.vector is not None for one in frame.pieces)
        pieces += [one.piece for one in frame.pieces]
    return kind, pieces


async def refused(data: bytes, name: str = "file") -> str:
    """Return the reason why a file is refused."""
    with pytest.raises(ParseError) as error:
        await read(data, name)
    return str(error.value)


# Files that are read.


async def test_word_documents_keep_headings_tables_and_accepted_changes() -> None:
    body = (
        paragraph("Handbook", "H1")
        + paragraph("Welcome.")
        + paragraph("Rooms", "Mine")
        + word_table([["Room", "Price"], ["Single", "80 euros"], ["Double", "120 euros"]])
        + "<w:p><w:r><w:t>It is </w:t></w:r><w:del><w:r><w:delText>not </w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>very quiet.</w:t></w:r></w:ins></w:p>"
    )
    notes = '<w:footnotes xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:footnote>'
    kind, found = await read(
        docx(body, **{"word/footnotes.xml": f"{notes}{paragraph('Tax is included.')}</w:footnote></w:footnotes>"})
    )
    assert kind == "docx"
    assert [(piece.heading, piece.text) for piece in found] == [
        ("Handbook", "Welcome."),
        (
            "Handbook › Rooms",
            "Room: Single; Price: 80 euros.\nRoom: Double; Price: 120 euros.\nIt is very quiet.\nTax is included.",
        ),
    ]


async def test_a_spreadsheet_gives_one_sentence_for_each_row() -> None:
    sheet = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>From</t></is></c></row>'
        '<row r="3"><c r="A3" t="s"><v>1</v></c><c r="B3" s="1"><v>45658</v></c><c r="C3" t="b"><v>1</v></c></row>'
    )
    kind, found = await read(xlsx(sheet, ["Ticket", "Day pass"]))
    assert (kind, found[0].heading, found[0].text) == ("xlsx", "Prices", "Ticket: Day pass; From: 2025-01-01; yes.")


async def test_pieces_of_a_presentation_name_their_slides() -> None:
    kind, found = await read(pptx(("Opening hours", "We open at nine."), ("Parking", "Behind the house.")))
    assert kind == "pptx"
    assert [(piece.page, piece.heading, piece.text) for piece in found] == [
        (1, "Opening hours", "We open at nine."),
        (2, "Parking", "Behind the house."),
    ]


def test_a_heading_without_text_becomes_a_piece() -> None:
    text = "# Hotel\n\n## Check-out is at 11\n\n## Bar\n\nOpen.\n\n# Emergency number 555 1234"
    assert [(piece.heading, piece.text) for piece in pieces_of(text)] == [
        ("Hotel", "Check-out is at 11"),
        ("Hotel › Bar", "Open."),
        ("", "Emergency number 555 1234"),
    ]


@pytest.mark.parametrize(
    "text", ["早餐在一楼餐厅供应，" * 120, "word, " * 2000, "字" * 2000, "| " + "cell " * 2000 + "|"]
)
def test_a_text_without_sentences_is_cut_too(text: str) -> None:
    found = pieces_of(text)
    assert max(token_count(piece.text) for piece in found) <= MOST_TOKENS


async def test_pdf_pages_become_paragraphs_without_repeated_footers() -> None:
    pages = [
        f"# Chapter {at}\nThis sentence goes on over the end of its line and is put to-\n"
        f"gether again on page {at}.\n\n\nA second paragraph."
        for at in range(1, 5)
    ]
    footed = [page + "\n" * 44 + f"Handbook, page {at}" for at, page in enumerate(pages, 1)]
    kind, found = await read(pdf(*footed))
    assert kind == "pdf" and [piece.page for piece in found] == [1, 2, 3, 4]
    assert found[1].heading == "Chapter 2"
    assert found[1].text == (
        "This sentence goes on over the end of its line and is put together again on page 2.\nA second paragraph."
    )


async def test_a_web_page_gives_the_text_that_a_reader_sees() -> None:
    page = (
        "<!doctype html><title>x</title><script>var hidden = '<p>no</p>';</script><h1>Shop</h1><p>Open&nbsp;daily."
        "<p>Closed on <b>Mon</b>days.<table><tr><th>Day<th>Hours<tr><td>Friday<td>9 to 5</table><style>p{}</style>"
    )
    kind, found = await read(page.encode(), "shop.txt")
    assert kind == "html"
    assert [(one.heading, one.text) for one in found] == [
        ("Shop", "Open daily.\nClosed on Mondays.\nDay: Friday; Hours: 9 to 5.")
    ]


async def test_rows_of_a_csv_file_name_their_columns() -> None:
    kind, found = await read("名称;价格\n单人间;80\n双人间;120\n".encode("gb18030"), "价格.csv")
    assert (kind, found[0].text) == ("csv", "名称: 单人间; 价格: 80.\n名称: 双人间; 价格: 120.")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("text", ["早餐从七点到十点半，在一楼的花园厅供应。", "Breakfast is served from 7 to 10:30."])
async def test_the_encoding_of_a_text_is_detected(text: str, encoding: str) -> None:
    assert (await read((text * 3).encode(encoding), "a.txt"))[1][0].text == text * 3


async def test_western_windows_text_is_not_read_as_chinese() -> None:
    text = "Le café à l’hôtel était très agréable ; déjà vu, cœur. Größe, Straße, Mädchen."
    assert (await read(text.encode("cp1252"), "a.txt"))[1][0].text == text


# How texts are cut into pieces.


def test_pieces_follow_headings_paragraphs_and_sentences() -> None:
    long = "This sentence has about forty letters. " * 60
    text = f"# Hotel\nWelcome.\n\n## Pool\nOpen at 8.\nTowels are free.\n\n### Depth\n\nTwo metres.\n\n## Bar\n{long}"
    found = pieces_of(text)
    assert [(piece.heading, piece.text) for piece in found[:3]] == [
        ("Hotel", "Welcome."),
        ("Hotel › Pool", "Open at 8. Towels are free."),
        ("Hotel › Pool › Depth", "Two metres."),
    ]
    bar = found[3:]
    assert len(bar) > 1 and all(piece.heading == "Hotel › Bar" and piece.text.endswith(".") for piece in bar)
    assert all(token_count(piece.text) <= MOST_TOKENS for piece in bar)
    assert all(text[piece.start : piece.end].strip() for piece in found)
    assert bar[1].start < bar[0].end, "the next piece of a cut paragraph repeats its last sentences"


def test_short_paragraphs_stay_together_and_rows_stay_whole() -> None:
    text = "# Prices\n\n| Room | Price |\n|---|---|\n" + "".join(f"| Room {at} | {at} euros |\n" for at in range(80))
    found = pieces_of(text)
    assert 1 < len(found) < 30
    assert all(
        line.startswith("Room: Room ") and line.endswith(" euros.") for one in found for line in one.text.split("\n")
    )
    assert [piece.text for piece in pieces_of("One.\n\nTwo.\n\nThree.")] == ["One.\nTwo.\nThree."]


@settings(deadline=None)
@given(st.text(alphabet="ab。.!？\n #|-你好吗一二三", max_size=3000))
def test_cutting_is_deterministic_and_loses_no_word(text: str) -> None:
    found = pieces_of(text)
    assert found == pieces_of(text)
    kept = "".join(piece.text + piece.heading for piece in found)
    for block in of_text(text):
        if not block.level:
            for word in block.text.split():
                assert word.strip("|") in kept or len(word) > 100
    assert all(token_count(piece.text) <= MOST_TOKENS + 300 for piece in found)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "[(" * 50_000,
        "“" * 100_000,
        "- " * 200_000,
        "| a " * 100_000 + "|",
        "# " * 100_000,
        "中" * 300_000,
    ],
)
async def test_strange_texts_are_cut_within_twenty_seconds(text: str) -> None:
    async with asyncio.timeout(20):
        found: list[Piece] = []
        with suppress(ParseError):  # a text that holds only headings
            _, found = await read(text.encode(), "a.md")
        assert text.startswith("# ") or sum(len(piece.text) for piece in found) >= len(text.replace(" ", "")) * 0.4


# Files that are refused.

KINDS = "Accepted: txt, md, html, csv, docx, pdf, pptx, xlsx."


@pytest.mark.parametrize(
    ("data", "name", "sentence"),
    [
        (b"", "a.txt", "The file holds no text."),
        (b" \n\t ", "a.md", "The file holds no text."),
        (b"MZ\x90\x00", "letter.txt", f"Unsupported kind of file. {KINDS}"),
        (b"\x7fELF", "a.md", f"Unsupported kind of file. {KINDS}"),
        (b"\x89PNG\r\n", "a.pdf", f"Unsupported kind of file. {KINDS}"),
        (b"ab\x00\x01\x02cd\x00\x00\x07" * 9, "a.txt", "The file is not text."),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1old",
            "a.doc",
            "The file has an old Office format. Save it as docx, pptx or xlsx.",
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "a.docx",
            "The file is protected by a password.",
        ),
        (package("other.xml", "text/plain", {})[:-40], "a.docx", "The file is damaged."),
        (docx(paragraph("x"))[:400], "a.docx", "The file is damaged."),
        (b"%PDF-1.7\nnothing", "a.pdf", "The file is damaged."),
        (pdf(b""), "scan.pdf", "The file holds no text."),
        (
            b"x" * (SOURCE_BYTES + 1),
            "a.txt",
            f"The file has {SOURCE_BYTES + 1} bytes. Accepted: at most {SOURCE_BYTES}.",
        ),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_a_file_that_is_not_a_document_gets_a_reason(data: bytes, name: str, sentence: str) -> None:
    assert await refused(data, name) == sentence


def zip_of(**parts: bytes) -> bytes:
    """Return a zip that is not an Office file."""
    return package("x", "text/plain", dict(parts))


def bomb_words() -> bytes:
    """Return a document of some hundred kilobytes that unpacks to 200 MB."""
    return docx(paragraph("bomb " * 1000) * 40_000)


def many_entries() -> bytes:
    """Return a zip of a hundred thousand parts."""
    return package("word/document.xml", "x", {f"{at}": b"" for at in range(100_000)})


def laughs() -> bytes:
    """Return a document whose entities contain entities (“billion laughs”)."""
    grown = "".join(f'<!ENTITY l{at} "{f"&l{at - 1};" * 10 if at else "lol"}">' for at in range(10))
    return docx(paragraph("x").replace("x", "&l9;"), before=f"<!DOCTYPE w [{grown}]>")


UNPACKS = "The file is too large when unpacked."
ENTITIES = "The file declares XML entities, which are not accepted."
TOO_MUCH = "The file needs more than 20 s or 512 MB to be read."


BOMBS: list[tuple[Callable[[], bytes], str]] = [
    (bomb_words, UNPACKS),
    (many_entries, UNPACKS),
    (laughs, ENTITIES),
    (lambda: docx("&x;", before='<!DOCTYPE w [<!ENTITY x SYSTEM "file:///etc/passwd">]>'), ENTITIES),
    (lambda: docx("&x;", before='<!DOCTYPE w [<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]>'), ENTITIES),
    (lambda: docx("<w:tbl><w:tr><w:tc>" * 2000), UNPACKS),
    (lambda: docx("<w:p/>" * 4_000_000), UNPACKS),
    (
        lambda: package("word/document.xml", "wordprocessingml.document", {}),
        "The file is incomplete: a part is missing.",
    ),
    (
        lambda: package(
            "word/document.xml",
            "application/vnd.ms-word.document.macroEnabled.main+xml",
            {"word/document.xml": "<x/>"},
        ),
        "The file holds macros. Save it without them, as docx, pptx or xlsx.",
    ),
    (
        lambda: zip_of(inner=docx(paragraph("x"))),
        "Unsupported kind of file. Accepted: docx, pptx, xlsx.",
    ),
    (lambda: xlsx('<row><c t="s"><v>0</v></c></row>' * 100_000, ["x" * 100_000]), UNPACKS),
    (lambda: xlsx('<row r="1"><c r="ZZZZ1"><v>1</v></c></row>'), UNPACKS),
    (lambda: xlsx('<row><c t="s"><v>7</v></c></row>'), "The file is damaged."),
    (lambda: pdf(b"(x) Tj " * 150_000_000), UNPACKS),
    (
        lambda: pdf("x", catalog=b"/Names 9 0 R", trailer=b"/Encrypt<</Filter/Standard/V 9/R 9>>"),
        "The file is damaged.",
    ),
    (
        lambda: b"%PDF-1.7\nxref\n0 1\n0000000000 65535 f \ntrailer<</Size 1/Prev 9>>\nstartxref\n9\n%%EOF",
        "The file is damaged.",
    ),
    (lambda: pdf("x")[:-300], "The file is damaged."),
    (
        lambda: assembled({1: b"<</Type/Catalog/Pages 2 0 R>>", 2: b"<</Type/Pages/Kids[2 0 R]/Count 9>>"}),
        "The file is damaged.",
    ),
]


CALLS, WORDS_A_TURN = 20, 20
STUTTER_SECONDS = 0.5


@pytest.mark.long
async def test_bombs_are_refused_while_calls_go_on_undisturbed(tmp_path: Path) -> None:
    async def call(number: int) -> float:
        """Run turn after turn; return the longest silence between two words, in seconds."""
        silence = 0.0
        connection = await served.connect()
        while not exploded.is_set():
            body = {"messages": [{"role": "user", "content": f"hi {number}"}], "stream": True}
            await connection.send(served.request("/chat/completions", body))
            await connection.head()
            said, at = await connection.chunk(), time.monotonic()
            while piece := await connection.chunk():
                silence, at = max(silence, time.monotonic() - at), time.monotonic()
                said += piece
            assert read_stream(said).text == "word " * WORDS_A_TURN
        return silence

    exploded = asyncio.Event()
    bombs = [make() for make, _ in BOMBS]
    words = [("chunk", "word "), ("sleep", 0.02)] * WORDS_A_TURN
    async with upstream(default=[*words, ("finish", "stop"), ("done",)]) as up:
        async with serving(tmp_path, models={"main": up.url}) as served:
            calls = [asyncio.create_task(call(number)) for number in range(CALLS)]
            ann = await somebody(served)
            base = await ann.base()
            replies = [await ann.upload(base, "file", bomb, **{"accept-language": "en"}) for bomb in bombs]
            exploded.set()
            silences = await asyncio.gather(*calls)
            assert (await ann.get(f"/api/rag/doc/list?kb_id={base}")).json()["docs"] == []
    assert {reply.status for reply in replies} == {422}
    told = [reply.json()["error"] for reply in replies]
    assert told == [f"The document cannot be read: {sentence}" for _, sentence in BOMBS]
    assert max(silences) < STUTTER_SECONDS


@pytest.mark.soak
async def test_reading_a_page_stops_at_the_time_limit() -> None:
    assert await refused(b"<html><!--" * 400_000) == TOO_MUCH


async def test_links_out_of_a_document_are_not_followed() -> None:
    outside = relations(
        ("r9", "hyperlink", "http://127.0.0.1:9/secret"), ("r2", "styles", "file:///etc/passwd"), external=True
    )
    data = docx(paragraph("Inside."), **{"word/_rels/document.xml.rels": outside})
    assert [piece.text for piece in (await read(data))[1]] == ["Inside."]
    slip = docx(paragraph("Inside."), **{"../../evil.txt": "x", "/etc/evil": "x"})
    assert [piece.text for piece in (await read(slip))[1]] == ["Inside."]


async def test_closing_the_reader_early_leaves_no_child_process() -> None:
    reading = frames(b"word " * 1_000_000, "a.txt", from_units=HashingEmbedder.from_units)
    await anext(reading)
    await reading.aclose()
    assert not Path(f"/proc/self/task/{_thread()}/children").read_text().strip()  # noqa: ASYNC240


def _thread() -> int:
    import threading

    return threading.get_native_id()


async def test_reading_twenty_files_does_not_block_the_event_loop() -> None:
    ticks, stop = 0, asyncio.Event()

    async def tick() -> None:
        nonlocal ticks
        while not stop.is_set():
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    some = [docx(paragraph(f"Text number {at}. " * 200)) for at in range(20)]
    await asyncio.gather(*(read(data) for data in some))
    stop.set()
    await ticking
    # `benchmarks/search.py` measures how late the loop is while a file is ingested.
    assert ticks > 2 * len(some), "the loop must go on while a file is read, not only between two files"


def test_damaged_files_are_read_or_refused_and_never_crash(tmp_path: Path) -> None:
    chance = random.Random(7)
    for kind in (docx(paragraph("x")), pdf("x"), pptx(("a", "b")), xlsx("")):
        data = bytearray(kind)
        for _ in range(20):
            data[chance.randrange(4, len(data))] ^= 1 << chance.randrange(8)
        with suppress(ParseError):
            assert asyncio.run(read(bytes(data)))[1]


def test_files_are_named_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.md", "sub/b.PDF", "c.exe", "d.docx"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    assert list(files_at([tmp_path])) == ["a.md", "d.docx", "sub/b.PDF"]
    assert list(files_at([tmp_path / "c.exe"])) == ["c.exe"]
    with pytest.raises(StoreError, match="does not exist"):
        files_at([tmp_path / "none"])
    (tmp_path / "other").mkdir()
    with pytest.raises(StoreError, match="contains no supported file. Accepted: .csv, .docx"):
        files_at([tmp_path / "other"])
    (tmp_path / "other" / "a.md").write_text("x", encoding="utf-8")
    with pytest.raises(StoreError, match="Two documents are named 'a.md'. Index their common folder, or rename one."):
        files_at([tmp_path / "a.md", tmp_path / "other"])
