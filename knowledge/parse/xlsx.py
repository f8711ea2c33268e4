"""Spreadsheets → blocks: a heading for each sheet; its first row names the columns; each further row is a block."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from knowledge.parse.errors import ParseError
from knowledge.parse.markup import placed
from knowledge.parse.package import TOO_LARGE, Package
from knowledge.passages.blocks import Block, table_rows

_BUILT_IN_DATES = frozenset({*range(14, 23), 27, 30, 36, 45, 46, 47, 50, 57})
_COLUMNS = 1_000


def of_xlsx(package: Package, part: str) -> list[Block]:
    """Return the blocks of the visible sheets, in their order. Formulas give the value that they last had."""
    relations = package.relations(part)
    others = {relation.kind: relation.target for relation in relations.values()}
    book = _Book(package, part, others)
    blocks: list[Block] = []
    for name, wanted in book.sheets:
        if wanted in relations and package.has(relations[wanted].target):
            rows = _Sheet(package, book).read(relations[wanted].target)
            blocks += [Block(name, 1), *(Block(row, row=True) for row in table_rows(rows))] if rows else []
    return placed(blocks)


class _Book:
    """What all sheets share: texts, which formats are dates, and the first day of the calendar."""

    def __init__(self, package: Package, part: str, others: Mapping[str, str]) -> None:
        self.sheets: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.dates: list[bool] = []
        self.first_day = datetime(1899, 12, 30)
        self._formats: dict[str, bool] = {}
        self._in_cells = self._in_text = self._spoken = False
        self._text: list[str] = []
        self._package = package
        package.read(part, self._workbook)
        if package.has(others.get("sharedStrings")):
            package.read(others["sharedStrings"], self._start_text, self._end_text, self._characters)
        if package.has(others.get("styles")):
            package.read(others["styles"], self._start_style, self._end_style)

    def _workbook(self, tag: str, given: Mapping[str, str]) -> None:
        if tag == "sheet" and given.get("state", "visible") == "visible":
            self.sheets.append((given.get("name", ""), given.get("rid", "")))
        elif tag == "workbookPr" and given.get("date1904") in ("1", "true"):
            self.first_day = datetime(1904, 1, 1)

    def _start_text(self, tag: str, given: Mapping[str, str]) -> None:
        if tag == "rPh":  # a guide to pronunciation
            self._spoken = True
        elif tag == "t":
            self._in_text = not self._spoken

    def _end_text(self, tag: str) -> None:
        if tag == "t":
            self._in_text = False
        elif tag == "rPh":
            self._spoken = False
        elif tag == "si":
            self.texts.append("".join(self._text))
            self._text.clear()

    def _characters(self, text: str) -> None:
        if self._in_text:
            self._text.append(self._package.count(text))

    def _start_style(self, tag: str, given: Mapping[str, str]) -> None:
        if tag == "numFmt":
            self._formats[given.get("numFmtId", "")] = _is_date(given.get("formatCode", ""))
        elif tag == "cellXfs":
            self._in_cells = True
        elif tag == "xf" and self._in_cells:
            number = given.get("numFmtId", "0")
            self.dates.append(self._formats.get(number, number.isdigit() and int(number) in _BUILT_IN_DATES))

    def _end_style(self, tag: str) -> None:
        if tag == "cellXfs":
            self._in_cells = False


class _Sheet:
    """Reads the rows of one sheet, without empty rows."""

    def __init__(self, package: Package, book: _Book) -> None:
        self._package = package
        self._book = book
        self._rows: list[list[str]] = []
        self._row: dict[int, str] = {}
        self._column = 0
        self._type = self._style = ""
        self._text: list[str] = []
        self._in_value = False

    def read(self, part: str) -> list[list[str]]:
        self._package.read(part, self._start, self._end, self._characters)
        return self._rows

    def _start(self, tag: str, given: Mapping[str, str]) -> None:
        if tag == "row":
            self._row, self._column = {}, 0
        elif tag == "c":
            self._type, self._style = given.get("t", "n"), given.get("s", "0")
            self._column = _column(given.get("r", "")) or self._column + 1
            self._text.clear()
        elif tag in ("v", "t"):
            self._in_value = True

    def _end(self, tag: str) -> None:
        if tag in ("v", "t"):
            self._in_value = False
        elif tag == "c" and self._text and self._column <= _COLUMNS:
            self._row[self._column] = self._package.count(self._value("".join(self._text)))
        elif tag == "row" and any(value.strip() for value in self._row.values()):
            self._rows.append([self._row.get(at, "") for at in range(1, max(self._row) + 1)])

    def _characters(self, text: str) -> None:
        if self._in_value:
            self._text.append(text)

    def _value(self, text: str) -> str:
        if self._type == "s":
            if not text.isdigit() or int(text) >= len(self._book.texts):
                raise ParseError("The file is damaged.")
            return self._book.texts[int(text)]
        if self._type == "b":
            return "yes" if text == "1" else "no"
        if self._type == "n" and self._style.isdigit():
            style = int(self._style)
            if style < len(self._book.dates) and self._book.dates[style]:
                return self._date(text)
        return text

    def _date(self, text: str) -> str:
        try:
            moment = self._book.first_day + timedelta(days=float(text))
        except (ValueError, OverflowError):
            return text
        return moment.strftime("%Y-%m-%d" if moment.time() == datetime.min.time() else "%Y-%m-%d %H:%M")


def _column(reference: str) -> int:
    """Return the number of the column (`B7` → 2); 0 if the reference has none."""
    number = 0
    for letter in reference:
        if not "A" <= letter <= "Z":
            break
        number = number * 26 + ord(letter) - 64
    if number > 16_384:
        raise ParseError(TOO_LARGE)
    return number


def _is_date(code: str) -> bool:
    """Return whether a number format shows a date: it has a letter of a date outside quotes and brackets."""
    quoted = bracketed = escaped = False
    for character in code.lower():
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif not quoted and character in "[]":
            bracketed = character == "["
        elif not quoted and not bracketed and character in "ymdhs":
            return True
    return False
