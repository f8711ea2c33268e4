"""PDF → blocks: lines become paragraphs, larger type becomes headings, and what every page repeats is left out.

It uses pypdf, which is memory-safe and ends every bomb we know with an error. PDFium is three times faster, but aborts
on some of them.
"""

import io
import re
import statistics
from collections import Counter
from typing import Any, NamedTuple

from pypdf import PdfReader
from pypdf.errors import LimitReachedError, PyPdfError

from knowledge.parse.errors import ParseError
from knowledge.parse.limits import TEXT_CHARACTERS
from knowledge.parse.markup import placed
from knowledge.passages.blocks import Block

_PAGES = 5_000
_MARGIN = 0.1
"""The share of a page's height, at the top and at the bottom, that may hold running headers and footers."""
_REPEATED = 0.5
"""A share of the pages. A line in the margin of this many pages is left out."""
_GAP = 1.3
"""A factor on the usual distance between lines. After a larger distance, a new paragraph begins."""
_HEADING_SIZE = 1.15
_LONGEST_HEADING = 120
_LEAST_CHARACTERS_A_PAGE = 20
_HYPHEN = re.compile(r"[\u00ad\x02\ufffe]$|(?<=[a-z])-$")


class _Line(NamedTuple):
    text: str
    y: float
    size: float


class _Page(NamedTuple):
    height: float
    lines: list[_Line]
    pictures: bool


def of_pdf(data: bytes) -> list[Block]:
    """Return the paragraphs and headings, each with its page. Raises ParseError, also for scans and protected files."""
    try:
        return _of_pdf(data)
    except LimitReachedError as error:
        raise ParseError("The file is too large when unpacked.") from error
    except (PyPdfError, NotImplementedError, ValueError) as error:
        raise ParseError("The file is damaged.") from error


def _of_pdf(data: bytes) -> list[Block]:
    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise ParseError("The file is protected by a password.")
    if len(reader.pages) > _PAGES:
        raise ParseError(f"The file has {len(reader.pages)} pages. Accepted: at most {_PAGES}.")
    pages: list[_Page] = []
    characters = 0
    for page in reader.pages:
        pages.append(_read(page))
        characters += sum(len(line.text) for line in pages[-1].lines)
        if characters > TEXT_CHARACTERS:
            raise ParseError(f"The file holds more than {TEXT_CHARACTERS} characters. Split it into several files.")
    pages = _without_running_lines(pages)
    characters = sum(len(line.text) for page in pages for line in page.lines)
    if characters < _LEAST_CHARACTERS_A_PAGE * len(pages) and any(page.pictures for page in pages):
        raise ParseError("The file holds images instead of text. Run text recognition (OCR) on it first.")
    size, gap = _usual_size(pages), _usual_gap(pages)
    return placed([block for number, page in enumerate(pages, 1) for block in _blocks(page, number, size, gap)])


def _read(page: Any) -> _Page:
    lines: list[tuple[float, list[tuple[str, float]]]] = []

    def visit(text: str, user: list[float], matrix: list[float], font: object, size: float) -> None:
        if text.strip():
            y = matrix[4] * user[1] + matrix[5] * user[3] + user[5]
            height = abs(size * matrix[3] * user[3]) or abs(size)
            if not lines or abs(lines[-1][0] - y) > 1:  # lines stay in drawing order, to keep columns apart
                lines.append((y, []))
            lines[-1][1].append((text.replace("\n", " "), height))

    page.extract_text(visitor_text=visit)
    found = [_Line("".join(text for text, _ in parts).strip(), y, max(size for _, size in parts)) for y, parts in lines]
    return _Page(float(page.mediabox.height), [line for line in found if line.text], _has_pictures(page))


def _has_pictures(page: Any) -> bool:
    resources = page.get("/Resources")
    objects = resources.get_object().get("/XObject") if resources is not None else None
    found = objects.get_object().values() if objects is not None else ()
    return any(one.get_object().get("/Subtype") == "/Image" for one in found)


def _without_running_lines(pages: list[_Page]) -> list[_Page]:
    """Return the pages without the margin lines that differ only in numbers from page to page."""
    seen = Counter(key for page in pages for key in {_running(page, line) for line in page.lines} if key)
    least = max(3, _REPEATED * len(pages))
    return [page._replace(lines=[line for line in page.lines if seen[_running(page, line)] < least]) for page in pages]


def _running(page: _Page, line: _Line) -> str:
    """Return the key by which a margin line is recognised on other pages; empty for the body of the page."""
    if _MARGIN * page.height < line.y < (1 - _MARGIN) * page.height:
        return ""
    return f"{round(line.y / 4)} {re.sub(r'[0-9]+', '#', line.text)}"


def _usual_size(pages: list[_Page]) -> float:
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            sizes[round(line.size, 1)] += len(line.text)
    return sizes.most_common(1)[0][0] if sizes else 1.0


def _usual_gap(pages: list[_Page]) -> float:
    """Return the distance between two lines of a paragraph. A quarter of all distances are at most this large."""
    gaps = [gap for page in pages for gap in _gaps(page) if gap > 0]
    return statistics.quantiles(gaps, n=4)[0] if len(gaps) > 1 else 1.0


def _gaps(page: _Page) -> list[float]:
    return [above.y - below.y for above, below in zip(page.lines, page.lines[1:], strict=False)]


def _blocks(page: _Page, number: int, usual: float, usual_gap: float) -> list[Block]:
    paragraphs: list[list[_Line]] = []
    for line in page.lines:
        before = paragraphs[-1][-1] if paragraphs else None
        near = before is not None and 0 <= before.y - line.y <= _GAP * usual_gap
        if before is None or not near or abs(line.size - before.size) > 0.1 * before.size:
            paragraphs.append([line])
        else:
            paragraphs[-1].append(line)
    blocks = []
    for lines in paragraphs:
        text = _joined([line.text for line in lines])
        large = lines[0].size / usual
        heading = large >= _HEADING_SIZE and len(text) <= _LONGEST_HEADING
        level = (1 if large >= 1.6 else 2 if large >= 1.3 else 3) if heading else 0
        blocks.append(Block(text, level, number))
    return blocks


def _joined(lines: list[str]) -> str:
    """Join the lines of a paragraph, without spaces between Han characters. Also join words that were hyphenated."""
    text = ""
    for line in lines:
        line = " ".join(line.split())
        if cut := _HYPHEN.search(text):
            text = text[: cut.start()] + line
        elif text and text[-1] > "\u2e80" and line[:1] > "\u2e80":
            text += line
        else:
            text = f"{text} {line}".strip()
    return text.replace("\ufb03", "ffi").replace("\ufb01", "fi").replace("\ufb02", "fl")
