"""Requests that schemathesis generates from the description of every route. None may cause a server error."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from dialgraph.project import ROOT
from tests.server.test_backend_api import backend
from tests.server.test_users_api import login
from tests.support.serving import Served

pytestmark = pytest.mark.clients
PROGRAM = ROOT / ".venv" / "schemathesis" / "bin" / "schemathesis"
CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance"
RATES = {"login": "", "login_address": "", "register": "", "turn": "", "upload": "", "request": ""}
SECONDS = 75


async def run(served: Served, *options: str) -> str:
    """Run schemathesis on the server; return what it prints."""
    command = [
        str(PROGRAM), "run", f"http://127.0.0.1:{served.port}/v1/openapi.json", "--checks", CHECKS, "--seed", "7",
        "--no-color", "--continue-on-failure", "--max-time", str(SECONDS), "--max-examples", "40", *options,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=Path.cwd(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )  # fmt: skip
    printed = (await process.communicate())[0].decode()
    assert process.returncode in (0, 1), printed
    return printed


@pytest.mark.timeout(400)
async def test_generated_requests_cause_no_server_error(tmp_path: Path) -> None:
    assert sys.platform != "win32" and PROGRAM.exists(), "`make test-all` installs it"
    async with backend(tmp_path, rates=RATES, user_streams=0) as (served, _):
        ann, _ = await login(served)
        # A logout would end this run, so a second run tests those routes without a login.
        inside = await run(
            served, "-H", f"Authorization: Bearer {ann.token}", "--exclude-path-regex", "^/(v1|api)/(sessions|users)",
            "--generation-with-security-parameters", "false",
        )  # fmt: skip
        assert (await ann.get("/v1/me")).status == 200
        outside = await run(served, "--include-path-regex", "^/(v1|api)/(sessions|users)")
    for printed in (inside, outside):
        assert re.search(r"\d+ generated", printed) and not _faults(printed), printed[-6000:]


def _faults(printed: str) -> list[str]:
    """Return the failures that schemathesis reports, except a user's own upstream that cannot be reached: that is a 502
    or 503 by the page of the wire, and generated conversations have such upstreams.
    """
    cases = re.split(r"^\s*\d+\. Test Case ID", printed.partition("WARNINGS =")[0], flags=re.MULTILINE)[1:]
    assert cases or "Failures:" not in printed, printed[-6000:]
    return [case for case in cases if not _is_own_upstream(case)]


def _is_own_upstream(case: str) -> bool:
    checks = re.findall(r"^\s*- (.+)$", case, re.MULTILINE)
    return checks == ["ST101 Server error"] and "The model 'own'" in case and '"code":"upstream_' in case
