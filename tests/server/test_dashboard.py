"""The dashboard and the alert rules: Prometheus reads them, and every metric they name is in a real scrape."""

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dialgraph.project import ROOT
from docgen.dashboard import dashboard
from server.metrics.table import METRICS
from tests.support.serving import serving

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "dialgraph.json"


def expressions() -> list[str]:
    """Return every expression of the dashboard and of the rules."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    rules = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"][0]["rules"]
    shown = [
        target["expr"].replace("$__rate_interval", "5m").replace("$graph", ".*")
        for panel in panels
        for target in panel["targets"]
    ]
    return shown + [rule["expr"] for rule in rules]


def promtool() -> str:
    """Return Prometheus's own tool, which `make debian` installs."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: `make debian`")
    return found


def test_the_dashboard_is_up_to_date() -> None:
    assert DASHBOARD.read_text(encoding="utf-8") == dashboard(), "run `make docs`"


def test_prometheus_accepts_the_rules() -> None:
    checked = subprocess.run([promtool(), "check", "rules", ALERTS], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_can_parse_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{at}", "expr": expression} for at, expression in enumerate(expressions())]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    checked = subprocess.run([promtool(), "check", "rules", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_every_metric_that_they_name_is_in_a_scrape_with_its_labels(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        scrape = (await served.get("/metrics")).body.decode()
    labels = {metric.name: set(metric.labels) for metric in METRICS}
    for expression in expressions():
        for name, chosen in re.findall(r"(dialgraph_\w+)(?:\{([^}]*)\})?", expression):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert base in labels and f"# TYPE {base} " in scrape, name
            assert set(re.findall(r"(\w+)=~?\"", chosen)) <= labels[base], expression
        named = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", expression))))
        used = set().union(
            *(labels[re.sub(r"_(bucket|sum|count)$", "", name)] for name in re.findall(r"dialgraph_\w+", expression))
        )
        assert named <= used | {"le", "instance"}, expression


async def test_promtool_finds_no_fault_in_a_scrape(tmp_path: Path) -> None:
    tool = promtool()
    async with serving(tmp_path) as served:
        body: dict[str, Any] = {"stream": True, "messages": [{"role": "user", "content": "Can I bring my dog?"}]}
        await served.post("/rag/chat/completions", body)
        scrape = (await served.get("/metrics")).body
    arguments = [tool, "check", "metrics"]
    checked = await asyncio.to_thread(subprocess.run, arguments, input=scrape, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_of_the_page_of_metrics_has_a_rule() -> None:
    rules = ALERTS.read_text(encoding="utf-8")
    missing = [
        metric.name for metric in METRICS if metric.alert and not re.search(rf"{metric.name}\b|{metric.name}_", rules)
    ]
    assert not missing
