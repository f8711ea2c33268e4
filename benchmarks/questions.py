"""How well questions are answered, on SQuAD-format files: a folder of them, or the bilingual set of our own.

Two figures a file: with the right paragraph given, how often the one or two spoken sentences hold the answer; and how
often the embedded store finds the right paragraph first, and among the first five.
"""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from knowledge.faiss import FaissStore
from knowledge.store import Document
from language.sentences import sentences
from models.extractive import best_sentences

OWN = Path(__file__).parent / "questions"


class Question(NamedTuple):
    """One question, its paragraph, and the texts that answer it."""

    text: str
    paragraph: str
    answers: list[str]


def read(file: Path) -> Iterator[Question]:
    """The questions of one file."""
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = [answer["text"] for answer in question["answers"]]
                yield Question(question["question"], paragraph["context"], answers)


def spoken(questions: list[Question]) -> tuple[float, float]:
    """The share of answers that the spoken sentences hold, and how many sentences are spoken on average."""
    held, count = 0, 0
    for question in questions:
        said = best_sentences(question.text, [question.paragraph])
        held += any(answer in said for answer in question.answers)
        count += len(sentences(said))
    return held / len(questions), count / len(questions)


async def retrieved(questions: list[Question]) -> tuple[float, float]:
    """The share of questions whose paragraph is found first, and in the first five."""
    paragraphs = list(dict.fromkeys(question.paragraph for question in questions))
    names = {paragraph: f"{at}.txt" for at, paragraph in enumerate(paragraphs)}
    with tempfile.TemporaryDirectory() as folder:
        store = FaissStore("bench", Path(folder))
        await store.add([Document(name, paragraph) for paragraph, name in names.items()])
        first = five = 0
        for question in questions:
            found = list(dict.fromkeys(passage.document for passage in await store.search(question.text, 10)))[:5]
            first += found[:1] == [names[question.paragraph]]
            five += names[question.paragraph] in found
    return first / len(questions), five / len(questions)


def measure(folder: Path | None) -> list[str]:
    """The table, as Markdown lines."""
    given = sorted(folder.glob("*.json")) if folder else []
    files = [*sorted(OWN.glob("*.json")), *given]
    if folder and not given:
        raise SystemExit(f"{str(folder)!r} holds no .json file. Accepted: files in SQuAD's format.")
    lines = [
        "| set | questions | the spoken sentences hold the answer | sentences | first is right | in the first five |",
        "|---|---|---|---|---|---|",
    ]
    for file in files:
        questions = list(read(file))
        share, count = spoken(questions)
        first, five = asyncio.run(retrieved(questions))
        lines.append(f"| {file.stem} | {len(questions)} | {share:.3f} | {count:.2f} | {first:.3f} | {five:.3f} |")
    return lines
