"""Writes the manual of a coffee machine as Word and PDF, in English and Chinese: `python -m docgen.manual FOLDER`.

The guide docs/knowledge.md uses these files, so that readers do not have to download any.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from docx import Document
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate


class Manual(NamedTuple):
    """A manual: a title, chapters of paragraphs, a table of prices, and the font for the PDF."""

    title: str
    chapters: dict[str, list[str]]
    table: list[list[str]]
    font: str


ENGLISH = Manual(
    "Aroma 300: user manual",
    {
        "First use": [
            "Fill the tank with fresh water up to the upper mark. Plug the machine in and press the power button.",
            "Rinse the machine twice before the first coffee: put a large cup below the outlet and press rinse.",
        ],
        "Cleaning": [
            "Empty the drip tray every evening and wash it by hand. It must not go into the dishwasher.",
            "Descale the machine when the red drop lights up, at least every three months. Use only liquid descaler.",
        ],
        "Faults": [
            "If the coffee is too weak, turn the grinder one step finer while it grinds.",
            "If it shows E4, the brewing unit is jammed. Switch off, take the unit out and rinse it in warm water.",
        ],
    },
    [["Part", "Order number", "Price"], ["Water tank", "A3-101", "29 euros"], ["Brewing unit", "A3-140", "65 euros"]],
    "Helvetica",
)
CHINESE = Manual(
    "香韵300咖啡机使用手册",
    {
        "首次使用": [
            "往水箱里加清水，加到上面的刻度线。插上电源，按下电源键。",
            "第一次冲咖啡之前，请冲洗机器两次：在出水口下放一个大杯子，按下冲洗键。",
        ],
        "清洁": [
            "每天晚上倒空滴水盘，并用手清洗，不能放进洗碗机。",
            "红色水滴灯亮起时请除垢，最迟每三个月一次。只能使用液体除垢剂。",
        ],
        "故障": [
            "咖啡太淡时，请在研磨过程中把磨豆机调细一档。",
            "机器显示E4，说明冲泡器卡住了。请关机，取出冲泡器，用温水冲洗。",
        ],
    },
    [["配件", "订货号", "价格"], ["水箱", "A3-101", "二十九欧元"], ["冲泡器", "A3-140", "六十五欧元"]],
    "STSong-Light",
)


def write(folder: Path) -> None:
    """Write the four files into this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for language, manual in (("en", ENGLISH), ("zh", CHINESE)):
        _word(manual, folder / f"manual.{language}.docx")
        _pdf(manual, folder / f"leaflet.{language}.pdf")


def _word(manual: Manual, file: Path) -> None:
    document = Document()
    document.add_heading(manual.title, 0)
    for heading, paragraphs in manual.chapters.items():
        document.add_heading(heading, 1)
        for paragraph in paragraphs:
            document.add_paragraph(paragraph)
    table = document.add_table(rows=0, cols=len(manual.table[0]))
    for row in manual.table:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.save(str(file))


def _pdf(manual: Manual, file: Path) -> None:
    if manual.font != "Helvetica":
        pdfmetrics.registerFont(UnicodeCIDFont(manual.font))
    body = ParagraphStyle("body", fontName=manual.font, fontSize=11, leading=15, spaceAfter=8, wordWrap="CJK")
    title = ParagraphStyle("title", parent=body, fontSize=18, leading=24, spaceAfter=14)
    story: list[object] = []
    for heading, paragraphs in manual.chapters.items():
        story += [Paragraph(heading, title), *(Paragraph(text, body) for text in paragraphs), PageBreak()]
    SimpleDocTemplate(str(file), pagesize=A4, title=manual.title, invariant=1).build(story)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
