"""`python -m docgen` writes the pages that are generated from the code."""

from dialgraph.project import ROOT
from docgen.pages import PAGES

for name, make in PAGES.items():
    (ROOT / "docs" / name).write_text(make(), encoding="utf-8")
