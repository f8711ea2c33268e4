"""`python -m docgen` writes the pages and the dashboard that are generated from the code."""

from dialgraph.project import ROOT
from docgen.dashboard import dashboard
from docgen.pages import PAGES

for name, make in PAGES.items():
    (ROOT / "docs" / name).write_text(make(), encoding="utf-8")
(ROOT / "deploy" / "grafana" / "dialgraph.json").write_text(dashboard(), encoding="utf-8")
