"""A document as a list of blocks, which parsers produce: headings, paragraphs and table rows, each with its place."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_UNDERLINE = re.compile(r"(=+|-+)\s*$")
_TABLE_RULE = re.compile(r"\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*$")
_VALUE = re.compile(r"[\d.,:/%€$£¥+-]+|yes|no|true|false", re.IGNORECASE)
"""Cells that cannot be the name of a column."""
_FENCE = re.compile(r"(```|~~~)")


class Block(NamedTuple):
    """A heading, a paragraph or a row of a table."""

    text: str
    level: int = 0
    """1 to 6 for a heading."""
    page: int | None = None
    start: int = 0
    end: int = 0
    """Where the block begins and ends in the document's text, in characters."""
    row: bool = False
    """Whether it is a row of a table. A row is not cut if it fits into one piece."""


def table_rows(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table as one sentence for each row, with each value after the name of its column.

    So a row can be found and read out by itself.
    """
    header = [" ".join(cell.split()) for cell in rows[0]] if rows else []
    names = list(filter(None, header))
    named = len(rows) > 1 and len(set(names)) == len(names) > 1 and not any(_VALUE.fullmatch(name) for name in names)
    for row in rows[1:] if named else rows:
        cells = [" ".join(cell.split()) for cell in row]
        parts = [
            f"{header[at]}: {cell}" if named and at < len(header) and header[at] else cell
            for at, cell in enumerate(cells)
            if cell
        ]
        if parts:
            yield "; ".join(parts) + "."


def of_text(text: str) -> list[Block]:
    """Return the blocks of plain text or Markdown."""
    blocks: list[Block] = []
    paragraph: list[str] = []
    table: list[str] = []
    begun = 0
    at = 0
    fenced = False

    def end_paragraph(end: int) -> None:
        if table:
            for row in table_rows([_cells(line) for line in table if not _TABLE_RULE.match(line)]):
                blocks.append(Block(row, start=begun, end=end, row=True))
            table.clear()
        if paragraph and (body := " ".join(" ".join(paragraph).split())):
            blocks.append(Block(body, start=begun, end=end))
        paragraph.clear()

    for line in text.splitlines(keepends=True):
        bare = line.strip()
        here, at = at, at + len(line)
        if _FENCE.match(bare):
            fenced = not fenced
        heading = None if fenced else _HEADING.fullmatch(bare)
        is_row = not fenced and bare.startswith("|") and bare.endswith("|") and len(bare) > 1
        underline = _UNDERLINE.match(bare) if len(paragraph) == 1 and not fenced and len(bare) > 2 else None
        if not bare or heading or (is_row and paragraph) or (table and not is_row):
            end_paragraph(here)
        if underline is not None and paragraph:
            title = paragraph.pop()
            blocks.append(Block(title, 1 if bare[0] == "=" else 2, start=begun, end=here))
        elif heading:
            blocks.append(Block(heading.group(2), len(heading.group(1)), start=here, end=at))
        elif bare:
            if not paragraph and not table:
                begun = here
            (table if is_row else paragraph).append(bare)
    end_paragraph(at)
    return blocks


def _cells(line: str) -> list[str]:
    return line.strip().strip("|").split("|")
