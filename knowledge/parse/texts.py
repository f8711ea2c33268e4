"""Kinds of text → blocks: what both the child and, for small files, its parent read."""

from collections.abc import Callable

from knowledge.parse.encoding import text_of
from knowledge.parse.errors import ParseError
from knowledge.parse.limits import TEXT_CHARACTERS
from knowledge.parse.markup import of_csv, of_html
from knowledge.passages.analyse import AnalysedPiece, analysed_pieces
from knowledge.passages.blocks import Block, of_text
from knowledge.passages.chunk import pieces

READERS: dict[str, Callable[[str], list[Block]]] = {"txt": of_text, "md": of_text, "html": of_html, "csv": of_csv}
PLAIN = frozenset({"txt", "md", "csv"})
"""Read in a time that grows with their length, whatever stands in them."""


def text_blocks(data: bytes, kind: str) -> list[Block]:
    """The blocks of a text of this kind. Raises ParseError."""
    text = text_of(data)
    if len(text) > TEXT_CHARACTERS:
        raise ParseError(
            f"The file has {len(text)} characters. Accepted: at most {TEXT_CHARACTERS}. Cut it into several files."
        )
    return READERS[kind](text)


def small_text(data: bytes, kind: str, hashing: bool) -> list[list[AnalysedPiece]]:
    """All batches of a small file. Raises ParseError."""
    found = list(pieces(text_blocks(data, kind)))
    if not found:
        raise ParseError("The file holds no text.")
    return list(analysed_pieces(found, hashing))
