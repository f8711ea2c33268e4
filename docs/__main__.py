"""`python -m docs`: write the pages that are generated from the code."""

from pathlib import Path

from docs.generate import PAGES

for name, make in PAGES.items():
    (Path(__file__).parent / name).write_text(make(), encoding="utf-8")
