"""The snippets of docs/deploy.md with the real proxies: words pass immediately, and a client that leaves is noticed."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dialgraph.project import ROOT
from tests.support.proxies import in_front
from tests.support.serving import CHAT, Served, serving
from tests.support.upstream import Action, Upstream, says, upstream

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def snippet(language: str) -> str:
    """Return the code block of this language, with a plain port of the test instead of TLS."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, language
    text = found[1].replace("{", "{{").replace("}", "}}").replace("127.0.0.1:8000", "127.0.0.1:{target}")
    text = re.sub(r"\n *ssl_certificate.*;", "", text).replace("listen 443 ssl;", "listen 127.0.0.1:{port};")
    text = re.sub(r"bind :443 ssl crt \S+", "bind 127.0.0.1:{port}", text)
    head = "{{\n  admin off\n  auto_https off\n}}\n" if language == "caddyfile" else ""
    text = text.replace("YOUR-HOST {{", "http://:{port} {{\n  bind 127.0.0.1") if language == "caddyfile" else text
    if language == "nginx":  # tests/support/proxies.py adds the server block
        inner = text.removeprefix("server {{\n").removesuffix("}}\n").splitlines()
        text = "\n".join(line for line in inner if not line.strip().startswith(("listen", "server_name")))
    return head + text


PROGRAMS = {"nginx": "nginx", "haproxy": "haproxy", "caddyfile": "caddy"}


@asynccontextmanager
async def deployed(language: str, folder: Path, script: list[Action]) -> AsyncIterator[tuple[Served, Upstream]]:
    """Run the server behind the proxy, configured as on the page."""
    async with upstream(default=script) as up:
        more: dict[str, Any] = {
            "models": {"main": up.url},
            "trusted_proxies": ("127.0.0.1",),
            "api_keys": {"a": "k" * 20},
        }
        async with serving(folder / "data", **more) as served:
            async with in_front(PROGRAMS[language], served.port, folder, snippet(language)) as port:
                yield replace(served, port=port), up


KEY = {"authorization": "Bearer " + "k" * 20}


@pytest.mark.parametrize("language", PROGRAMS)
async def test_each_word_passes_before_the_next_one_is_written(language: str, tmp_path: Path) -> None:
    words: list[Action] = [("chunk", "one "), ("sleep", 30.0), *says("two")]
    async with deployed(language, tmp_path, words) as (front, up):
        connection = await front.connect()
        await connection.send(front.request(CHAT, BODY, KEY))
        data = b""
        while b'"one "' not in data:
            data += await asyncio.wait_for(connection.reader.read(4096), 20)
        assert up.exchanges[0].left is None, "the model still answers"
        connection.reset()


@pytest.mark.parametrize("language", PROGRAMS)
async def test_a_client_that_leaves_in_silence_stops_the_model(language: str, tmp_path: Path) -> None:
    async with deployed(language, tmp_path, [("hang",)]) as (front, up):
        connection = await front.connect()
        await connection.send(front.request(CHAT, BODY, KEY))
        await up.until(lambda: bool(up.exchanges), 20)
        connection.reset()
        await up.until(lambda: up.exchanges[0].left is not None, 20)


@pytest.mark.parametrize("language", PROGRAMS)
async def test_a_key_is_still_required_behind_a_proxy(language: str, tmp_path: Path) -> None:
    async with deployed(language, tmp_path, says("Hi.")) as (front, _):
        refused = await front.post(CHAT, BODY, {"x-forwarded-for": "127.0.0.1"})
        answered = await front.post(CHAT, BODY, KEY)
        ready = await front.get("/ready")
    assert (refused.status, answered.status, ready.status) == (401, 200, 200)


def test_systemd_accepts_the_unit_file(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None, "systemd-analyze is missing: `make debian` installs it"
    found = re.search(r"```ini\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    unit = tmp_path / "dialgraph.service"
    text = found[1].replace("/srv/dialgraph/.venv/bin/dialgraph", "/bin/true").replace("User=dialgraph", "User=root")
    unit.write_text(text.replace("/srv/dialgraph", str(tmp_path)))
    checked = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True)
    told = [line for line in checked.stderr.splitlines() if "dialgraph.service" in line]
    assert checked.returncode == 0 and not told, checked.stderr
