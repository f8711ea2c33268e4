"""Word documents → blocks: headings by style or outline level, tables by row, footnotes at the end."""

from collections.abc import Mapping

from knowledge.parse.markup import placed
from knowledge.parse.package import Package
from knowledge.passages.blocks import Block, table_rows

# Deleted text, earlier formatting, field codes, and the second copy of a text box for old programs.
_SKIPPED = frozenset("del moveFrom Fallback pPrChange rPrChange instrText delText".split())
_LONGEST_CHAIN = 12


def of_docx(package: Package, part: str) -> list[Block]:
    """Return the blocks of the text, with all tracked changes accepted."""
    others = {relation.kind: relation.target for relation in package.relations(part).values()}
    styles = _Styles(package, others.get("styles"))
    blocks = _Body(package, styles).read(part)
    for kind in ("footnotes", "endnotes"):
        if package.has(others.get(kind)):
            blocks += _Body(package, styles).read(others[kind])
    return placed(blocks)


class _Styles:
    """The heading level of each style: its own, or that of the style it is based on."""

    def __init__(self, package: Package, part: str | None) -> None:
        self._levels: dict[str, int] = {}
        self._based_on: dict[str, str] = {}
        self._current = ""
        if part is not None and package.has(part):
            package.read(part, self._start)

    def level(self, style: str) -> int:
        """Return 1 to 6, or 0 if the style is not a heading."""
        for _ in range(_LONGEST_CHAIN):
            if style in self._levels:
                return self._levels[style]
            style = self._based_on.get(style, "")
        return 0

    def _start(self, tag: str, given: Mapping[str, str]) -> None:
        value = given.get("val", "")
        if tag == "style":
            self._current = given.get("styleId", "")
        elif tag == "basedOn":
            self._based_on[self._current] = value
        elif tag == "outlineLvl":
            self._levels[self._current] = outline_level(value)
        elif tag == "name":
            name = value.lower()
            if name == "title":
                self._levels.setdefault(self._current, 1)
            elif name.startswith("heading ") and name[8:].isdigit():
                self._levels.setdefault(self._current, min(int(name[8:]), 6))


def outline_level(value: str) -> int:
    """Return the heading level, 1 to 6, or 0 for body text. Word counts from 0, and 9 is body text."""
    return int(value) + 1 if value.isdigit() and int(value) < 6 else 0


class _Paragraph:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.level: int | None = None
        self.style = ""


class _Body:
    """Reads the paragraphs and tables of one part. A paragraph may hold a text box, and a cell may hold a table."""

    def __init__(self, package: Package, styles: _Styles) -> None:
        self._package = package
        self._styles = styles
        self._blocks: list[Block] = []
        self._open: list[_Paragraph] = []
        self._tables: list[list[list[str]]] = []
        self._skipped = 0
        self._in_text = False

    def read(self, part: str) -> list[Block]:
        self._package.read(part, self._start, self._end, self._characters)
        return self._blocks

    def _start(self, tag: str, given: Mapping[str, str]) -> None:
        if self._skipped or tag in _SKIPPED:
            self._skipped += 1
        elif tag == "p":
            self._open.append(_Paragraph())
        elif tag == "tbl":
            self._tables.append([])
        elif tag == "tr" and self._tables:
            self._tables[-1].append([])
        elif tag == "tc" and self._tables and self._tables[-1]:
            self._tables[-1][-1].append("")
        elif self._open:
            self._in_paragraph(tag, given)

    def _in_paragraph(self, tag: str, given: Mapping[str, str]) -> None:
        paragraph = self._open[-1]
        if tag == "pStyle":
            paragraph.style = given.get("val", "")
        elif tag == "outlineLvl":
            paragraph.level = outline_level(given.get("val", ""))
        elif tag == "t":
            self._in_text = True
        elif tag in ("br", "cr") or (tag == "tab" and "pos" not in given):
            paragraph.text.append(" ")
        elif tag == "noBreakHyphen":
            paragraph.text.append("-")

    def _end(self, tag: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif tag == "t":
            self._in_text = False
        elif tag == "p" and self._open:
            self._end_paragraph(self._open.pop())
        elif tag == "tbl" and self._tables:
            rows = self._tables.pop()
            if self._tables and self._tables[-1] and self._tables[-1][-1]:
                self._tables[-1][-1][-1] += " ".join(cell for row in rows for cell in row)
            else:
                self._blocks += [Block(row, row=True) for row in table_rows([row for row in rows if row])]

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        text = " ".join("".join(paragraph.text).split())
        if not text:
            return
        if self._tables and self._tables[-1] and self._tables[-1][-1]:
            cell = self._tables[-1][-1]
            cell[-1] = f"{cell[-1]} {text}".strip()
        else:
            level = paragraph.level if paragraph.level is not None else self._styles.level(paragraph.style)
            self._blocks.append(Block(text, level))

    def _characters(self, text: str) -> None:
        if self._in_text and not self._skipped and self._open:
            self._open[-1].text.append(self._package.count(text))
