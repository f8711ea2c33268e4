"""How well questions are answered without a model, on files in SQuAD's format: a given folder, or our bilingual set.

The right paragraph is given. The figure is how often the one or two spoken sentences contain the answer.
"""

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from dialgraph.language.sentences import sentences
from dialgraph.models.extractive import best_sentences

OWN = Path(__file__).parent / "questions"


class Question(NamedTuple):
    """A question, its paragraph, and the texts that count as the answer."""

    text: str
    paragraph: str
    answers: list[str]
    held_out: bool = False
    """Whether it was not used for tuning. This is every second question of its set."""


def read(file: Path) -> Iterator[Question]:
    """Yield the questions of one file."""
    held_out = cycle((False, True))
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = [answer["text"] for answer in question["answers"]]
                yield Question(question["question"], paragraph["context"], answers, next(held_out))


def spoken(questions: list[Question]) -> tuple[float, float]:
    """Return the share of questions whose spoken sentences contain the answer, and the average number of sentences."""
    held, count = 0, 0
    for question in questions:
        said = best_sentences(question.text, [question.paragraph])
        held += any(answer in said for answer in question.answers)
        count += len(sentences(said))
    return held / len(questions), count / len(questions)


def sets(folder: Path | None) -> dict[str, list[Question]]:
    """Return the questions of each file by its name, our own set first. Raise SystemExit if the folder has no file."""
    given = sorted(folder.glob("*.json")) if folder else []
    if folder and not given:
        raise SystemExit(f"{str(folder)!r} contains no .json file. Accepted: files in SQuAD's format.")
    return {file.stem: list(read(file)) for file in [*sorted(OWN.glob("*.json")), *given]}


def measure(questions: dict[str, list[Question]]) -> list[str]:
    """Return the table, as Markdown lines."""
    lines = ["| set | questions | the spoken sentences hold the answer | sentences |", "|---|---|---|---|"]
    for name, asked in questions.items():
        share, count = spoken(asked)
        lines.append(f"| {name} | {len(asked)} | {share:.3f} | {count:.2f} |")
    return lines
