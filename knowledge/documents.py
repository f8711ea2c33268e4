"""Files → documents → passages. Text and Markdown; each passage knows the heading it stands under."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from knowledge.store import Document, StoreError
from language.sentences import sentences

SUFFIXES = (".md", ".txt")
MAX_PASSAGE_CHARACTERS = 700
_HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*$")


class Piece(NamedTuple):
    """A passage before it is found."""

    text: str
    heading: str


def read_documents(paths: list[Path]) -> list[Document]:
    """The text files at these paths; a folder stands for all that it holds, in a fixed order."""
    documents: list[Document] = []
    for path in paths:
        if not path.exists():
            raise StoreError(f"{str(path)!r} does not exist.")
        files = (
            sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
            if path.is_dir()
            else [path]
        )
        if not files or files[0].suffix not in SUFFIXES:
            raise StoreError(f"{str(path)!r} holds no document. Accepted: {', '.join(SUFFIXES)}.")
        for file in files:
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            if any(document.name == name for document in documents):
                raise StoreError(f"Two documents are named {name!r}. Index their common folder, or rename one.")
            try:
                documents.append(Document(name, file.read_text(encoding="utf-8-sig")))
            except UnicodeDecodeError:
                raise StoreError(f"{name!r} is not UTF-8 text.") from None
    return documents


def pieces(text: str) -> Iterator[Piece]:
    """The text cut at headings and blank lines, and where a paragraph is too long at the end of a sentence."""
    heading: list[str] = []
    for block in re.split(r"\n\s*\n|\n(?=#{1,6}\s)|(?<=\n)(?=#{1,6}\s)", text.strip()):
        first, _, rest = block.strip().partition("\n")
        if match := _HEADING.fullmatch(first):
            level = len(first) - len(first.lstrip("#"))
            heading = [*heading[: level - 1], match.group(1)]
            block = rest
        body = " ".join(block.split())
        if body:
            yield from (Piece(part, " › ".join(heading)) for part in _fitting(body))


def _fitting(body: str) -> Iterator[str]:
    held = ""
    for sentence in sentences(body):
        if held and len(held) + len(sentence) > MAX_PASSAGE_CHARACTERS:
            yield held.strip()
            held = ""
        held += sentence
    if held.strip():
        yield held.strip()
