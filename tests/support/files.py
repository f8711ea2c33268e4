"""Documents of every kind, built by hand: valid ones, and ones built to harm the program that reads them."""

import io
import zipfile
import zlib
from collections.abc import Sequence
from html import escape

_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SLIDE = "http://schemas.openxmlformats.org/presentationml/2006/main"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
_TYPE = "application/vnd.openxmlformats-officedocument"


def package(main: str, media_type: str, parts: dict[str, str | bytes]) -> bytes:
    """Return a zip of these parts, whose document is the part `main`."""
    types = f'<Override PartName="/{main}" ContentType="{media_type}"/>'
    every: dict[str, str | bytes] = {
        "[Content_Types].xml": f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types">{types}</Types>',
        "_rels/.rels": relations(("r1", "officeDocument", main)),
        **parts,
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in every.items():
            # With the time of now, the tests that pytest names after these bytes would differ from worker to worker.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def relations(*found: tuple[str, str, str], external: bool = False) -> str:
    """Return the relations file of a part. Each relation is an id, a kind and a target."""
    mode = ' TargetMode="External"' if external else ""
    inner = "".join(f'<Relationship Id="{a}" Type="{_OFFICE}/{b}" Target="{c}"{mode}/>' for a, b, c in found)
    return f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">{inner}</Relationships>'


def docx(body: str, before: str = "", **parts: str | bytes) -> bytes:
    """Return a Word document with this body."""
    document = f'{_HEAD}{before}<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>'
    styles = (
        f'{_HEAD}<w:styles xmlns:w="{_WORD}"><w:style w:styleId="H1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="Mine"><w:basedOn w:val="H2"/></w:style>'
        '<w:style w:styleId="H2"><w:name w:val="Heading 2"/></w:style></w:styles>'
    )
    others = {
        "word/styles.xml": styles,
        "word/_rels/document.xml.rels": relations(("r2", "styles", "styles.xml"), ("r3", "footnotes", "footnotes.xml")),
    }
    media_type = f"{_TYPE}.wordprocessingml.document.main+xml"
    return package("word/document.xml", media_type, {"word/document.xml": document, **others, **parts})


def paragraph(text: str, style: str = "") -> str:
    """Return a paragraph of a Word document."""
    named = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{named}<w:r><w:t>{escape(text)}</w:t></w:r></w:p>"


def word_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of a Word document."""
    cells = ("".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) for row in rows)
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"


def xlsx(sheet: str, texts: Sequence[str] = ()) -> bytes:
    """Return a workbook with one sheet, `Prices`."""
    strings = "".join(f"<si><t>{escape(text)}</t></si>" for text in texts)
    return package(
        "xl/workbook.xml",
        f"{_TYPE}.spreadsheetml.sheet.main+xml",
        {
            "xl/workbook.xml": f'{_HEAD}<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}">'
            '<sheets><sheet name="Prices" sheetId="1" r:id="r1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": relations(
                ("r1", "worksheet", "worksheets/sheet1.xml"),
                ("r2", "sharedStrings", "sharedStrings.xml"),
                ("r3", "styles", "styles.xml"),
            ),
            "xl/sharedStrings.xml": f'{_HEAD}<sst xmlns="{_SHEET}">{strings}</sst>',
            "xl/styles.xml": f'{_HEAD}<styleSheet xmlns="{_SHEET}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/>'
            "</cellXfs></styleSheet>",
            "xl/worksheets/sheet1.xml": f'{_HEAD}<worksheet xmlns="{_SHEET}"><sheetData>{sheet}</sheetData>'
            "</worksheet>",
        },
    )


def pptx(*slides: tuple[str, str]) -> bytes:
    """Return a presentation. Each slide is a title and a text."""
    parts: dict[str, str | bytes] = {}
    for number, (title, text) in enumerate(slides, 1):
        shapes = "".join(
            f'<p:sp><p:nvSpPr><p:nvPr><p:ph type="{kind}"/></p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>{escape(said)}'
            "</a:t></a:r></a:p></p:txBody></p:sp>"
            for kind, said in (("title", title), ("body", text), ("sldNum", str(number)))
        )
        parts[f"ppt/slides/slide{number}.xml"] = (
            f'{_HEAD}<p:sld xmlns:p="{_SLIDE}" xmlns:a="{_DRAWING}"><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld>'
            "</p:sld>"
        )
    listed = "".join(f'<p:sldId id="{255 + at}" r:id="r{at}"/>' for at in range(1, len(slides) + 1))
    parts["ppt/presentation.xml"] = (
        f'{_HEAD}<p:presentation xmlns:p="{_SLIDE}" xmlns:r="{_OFFICE}"><p:sldIdLst>{listed}</p:sldIdLst>'
        "</p:presentation>"
    )
    parts["ppt/_rels/presentation.xml.rels"] = relations(
        *((f"r{at}", "slide", f"slides/slide{at}.xml") for at in range(1, len(slides) + 1))
    )
    return package("ppt/presentation.xml", f"{_TYPE}.presentationml.presentation.main+xml", parts)


def pdf(*pages: str | bytes, extra: bytes = b"", catalog: bytes = b"", trailer: bytes = b"") -> bytes:
    """Return a PDF of these pages. A page is drawing commands (bytes) or lines of text (str)."""
    objects: dict[int, bytes] = {
        1: b"<</Type/Catalog/Pages 2 0 R" + catalog + b">>",
        3: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    }
    kids = []
    for page in pages:
        number = len(objects) + 2
        content = page if isinstance(page, bytes) else _drawn(page)
        kids.append(b"%d 0 R" % number)
        objects[number] = (
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents %d 0 R/Resources<</Font<</F 3 0 R>>%s>>>>"
            % (number + 1, extra)
        )
        objects[number + 1] = stream(content)
    objects[2] = b"<</Type/Pages/Kids[%s]/Count %d>>" % (b" ".join(kids), len(kids))
    return assembled(objects, trailer)


def stream(content: bytes, said: bytes = b"") -> bytes:
    """Return a deflated stream object. `said` goes into its dictionary."""
    data = zlib.compress(content, 9)
    return b"<</Length %d/Filter/FlateDecode%s>>stream\n%s\nendstream" % (len(data), said, data)


def assembled(objects: dict[int, bytes], trailer: bytes = b"") -> bytes:
    """Return a PDF file of numbered objects. Object 1 is the catalog."""
    out, places = b"%PDF-1.7\n", {}
    for number, content in sorted(objects.items()):
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % places[number] for number in sorted(places))
    end = b"trailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, trailer, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1) + table + end


def _drawn(text: str) -> bytes:
    """Return commands that draw the lines from the top down. `# ` makes a line large, an empty line leaves a gap."""
    commands, y = [], 700
    for line in text.splitlines():
        size = 20 if line.startswith("# ") else 11
        said = line.removeprefix("# ").replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        commands.append(f"BT /F {size} Tf 60 {y} Td ({said}) Tj ET")
        y -= 2 * size if size > 11 else 14
    return "\n".join(commands).encode("cp1252")
