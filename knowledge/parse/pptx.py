"""Presentations → blocks: a slide's title is a heading, its number is the page, and its notes follow it."""

from collections.abc import Mapping

from knowledge.parse.errors import ParseError
from knowledge.parse.markup import placed
from knowledge.parse.package import TOO_LARGE, Package
from knowledge.passages.blocks import Block, table_rows

_FURNITURE = frozenset("sldNum dt ftr hdr sldImg".split())
_SLIDES = 5_000


def of_pptx(package: Package, part: str) -> list[Block]:
    """Return the blocks of the slides, in their order."""
    relations = package.relations(part)
    shown: list[str] = []
    package.read(part, lambda tag, given: shown.append(given.get("rid", "")) if tag == "sldId" else None)
    if len(shown) > _SLIDES or len(set(shown)) != len(shown):
        raise ParseError(TOO_LARGE)
    blocks: list[Block] = []
    for number, wanted in enumerate(shown, 1):
        slide = relations[wanted].target if wanted in relations else None
        if slide is None or not package.has(slide):
            continue
        blocks += _Shapes(package, number).read(slide)
        for relation in package.relations(slide).values():
            if relation.kind == "notesSlide" and package.has(relation.target):
                blocks += [block for block in _Shapes(package, number).read(relation.target) if not block.level]
    return placed(blocks)


class _Shapes:
    """Reads the shapes of a slide or of its notes."""

    def __init__(self, package: Package, page: int) -> None:
        self._package = package
        self._page = page
        self._blocks: list[Block] = []
        self._kind = ""
        self._text: list[str] = []
        self._rows: list[list[str]] | None = None
        self._in_text = False

    def read(self, part: str) -> list[Block]:
        self._package.read(part, self._start, self._end, self._characters)
        return self._blocks

    def _start(self, tag: str, given: Mapping[str, str]) -> None:
        if tag in ("sp", "graphicFrame"):
            self._kind = ""
        elif tag == "ph":
            self._kind = given.get("type", "body")
        elif tag == "tbl":
            self._rows = []
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag == "tc" and self._rows:
            self._rows[-1].append("")
        elif tag == "t":
            self._in_text = True
        elif tag == "br":
            self._text.append(" ")

    def _end(self, tag: str) -> None:
        if tag == "t":
            self._in_text = False
        elif tag == "p":
            text = " ".join("".join(self._text).split())
            self._text.clear()
            if not text or self._kind in _FURNITURE:
                return
            if self._rows and self._rows[-1]:
                self._rows[-1][-1] = f"{self._rows[-1][-1]} {text}".strip()
            else:
                self._blocks.append(Block(text, 1 if self._kind in ("title", "ctrTitle") else 0, self._page))
        elif tag == "tbl" and self._rows is not None:
            self._blocks += [Block(row, page=self._page, row=True) for row in table_rows(self._rows)]
            self._rows = None

    def _characters(self, text: str) -> None:
        if self._in_text:
            self._text.append(self._package.count(text))
