"""HTML and CSV → blocks."""

import csv
import io
from html.parser import HTMLParser

from knowledge.parse.errors import ParseError
from knowledge.passages.blocks import Block, table_rows

_HIDDEN = frozenset("script style template title noscript svg head nav iframe object".split())
_BREAKS = frozenset(
    "p div br li ul ol dl dt dd section article header footer main aside blockquote pre hr form fieldset figure table"
    " tr address details summary".split()
)
_LONGEST_HTML = 5_000_000
"""In characters. With unclosed comments, the standard library's parser takes quadratic time."""


def of_html(text: str) -> list[Block]:
    """Return the headings, paragraphs and tables that a reader sees."""
    if len(text) > _LONGEST_HTML:
        raise ParseError(f"The page has {len(text)} characters. Accepted: at most {_LONGEST_HTML}.")
    page = _Page()
    page.feed(text)
    page.close()
    page.end_paragraph()
    return placed(page.blocks)


def of_csv(text: str) -> list[Block]:
    """Return one block for each row, with each value after the name of its column."""
    csv.field_size_limit(1_000_000)
    try:
        dialect: type[csv.Dialect] | str = csv.Sniffer().sniff(text[:20_000], delimiters=",;\t|")
    except csv.Error:
        dialect = "excel-tab" if "\t" in text[:20_000] else "excel"
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), dialect) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ParseError(f"The table cannot be read: {error}.") from error
    return placed([Block(row, row=True) for row in table_rows(rows)])


def placed(blocks: list[Block]) -> list[Block]:
    """Return the blocks with their places in the text that has each block on its own line."""
    at = 0
    found = []
    for block in blocks:
        found.append(block._replace(start=at, end=at + len(block.text)))
        at += len(block.text) + 1
    return found


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._text: list[str] = []
        self._hidden: list[str] = []
        self._heading = 0
        self._tables: list[list[list[str]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if self._hidden or tag in _HIDDEN:
            if tag in _HIDDEN:
                self._hidden.append(tag)
            return
        if tag in ("td", "th"):
            self.end_paragraph()
            if self._tables and self._tables[-1]:
                self._tables[-1][-1].append("")
        elif tag in _BREAKS or _level(tag):
            self.end_paragraph()
            self._heading = _level(tag) or self._heading
            if tag == "table":
                self._tables.append([])
            elif tag == "tr" and self._tables:
                self._tables[-1].append([])

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag == self._hidden[-1]:
                self._hidden.pop()
            elif tag == "html":
                self._hidden.clear()
            return
        if tag in _BREAKS or _level(tag) or tag in ("td", "th"):
            self.end_paragraph()
        if tag == "table" and self._tables:
            rows = [row for row in self._tables.pop() if row]
            self.blocks += [Block(row, row=True) for row in table_rows(rows)]

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._text.append(data)

    def end_paragraph(self) -> None:
        text = " ".join("".join(self._text).split())
        self._text.clear()
        level, self._heading = self._heading, 0
        if not text:
            return
        if self._tables and self._tables[-1] and self._tables[-1][-1]:
            cell = self._tables[-1][-1]
            cell[-1] = f"{cell[-1]} {text}".strip()
        else:
            self.blocks.append(Block(text, level))


def _level(tag: str) -> int:
    return int(tag[1]) if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456" else 0
