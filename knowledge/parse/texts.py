"""Text files → blocks, for the child and, if a file is small, for its parent."""

from collections.abc import Callable

from knowledge.parse.encoding import text_of
from knowledge.parse.errors import ParseError
from knowledge.parse.limits import TEXT_CHARACTERS
from knowledge.parse.markup import of_csv, of_html
from knowledge.passages.analyse import AnalysedPiece, analysed_pieces, unit_vectors
from knowledge.passages.blocks import Block, of_text
from knowledge.passages.chunk import pieces

READERS: dict[str, Callable[[str], list[Block]]] = {"txt": of_text, "md": of_text, "html": of_html, "csv": of_csv}
PLAIN = frozenset({"txt", "md", "csv"})
"""The kinds that are read in linear time, whatever their content."""


def text_blocks(data: bytes, kind: str) -> list[Block]:
    """Return the blocks of a text of this kind. Raises ParseError."""
    text = text_of(data)
    if len(text) > TEXT_CHARACTERS:
        raise ParseError(
            f"The file has {len(text)} characters. Accepted: at most {TEXT_CHARACTERS}. Split it into several files."
        )
    return READERS[kind](text)


def small_text(data: bytes, kind: str, from_units: str) -> list[list[AnalysedPiece]]:
    """Return all batches of pieces of a small file. Raises ParseError."""
    found = list(pieces(text_blocks(data, kind)))
    if not found:
        raise ParseError("The file holds no text.")
    return list(analysed_pieces(found, unit_vectors(from_units)))
