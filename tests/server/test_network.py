"""The server sends packets only to configured upstreams: no telemetry, no model hub, no other lookup."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dialgraph.project import ROOT

FILES = (
    "server/test_backend_api", "server/test_users_api", "server/test_usage", "nodes/test_retrieval",
    "knowledge/test_documents", "dialgraph/test_graph_run", "server/test_http", "whole/test_canary",
)  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(400)
def test_packets_go_only_to_configured_addresses(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], check=False).returncode:
        pytest.skip("this machine cannot create network namespaces")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # With a folder of its own pytest does not delete old folders of other runs. In the namespace it may not delete all.
    options = (f"--basetemp={tmp_path / 'alone'}", *(f"tests/{name}.py" for name in FILES))
    run = subprocess.run(
        [unshare, "-rn", sys.executable, "-m", "tests.support.alone", *options],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stdout.splitlines()[-1:] == ["exit 0 counted 1 away 0"], run.stdout[-3000:] + run.stderr[-1000:]
