"""The server in its own process. A test can kill it and start it again."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dialgraph.project import ROOT

RATES = ("login", "login_name", "login_address", "register", "turn", "upload", "request")
"""The rate limits. All are off, unless a test sets them."""


class Server:
    """A server process on one data folder, which can be killed and started again."""

    def __init__(
        self, folder: Path, model: str, errors: Path | None = None, under: Sequence[str] = (), **more: Any
    ) -> None:
        self._folder = folder
        self._under = under
        self._errors = errors
        more = {"auth": "none", **more} if "api_keys" not in more else more
        settings = {"models": {"main": model}, "upstreams": {"gpt": model}, "rates": dict.fromkeys(RATES, ""), **more}
        variables = {
            f"DIALGRAPH_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in settings.items()
        }
        self._environment = {**os.environ, **variables, "DIALGRAPH_DATA_DIR": str(folder), "PYTHONPATH": str(ROOT)}
        self._environment |= {"DIALGRAPH_USER_STREAMS": "0", "DIALGRAPH_SAMPLE_HANDBOOK": "false"}
        self.port = 0
        self.process: asyncio.subprocess.Process | None = None

    def more(self, **variables: str) -> None:
        """Add variables to the environment of the next start. PYTHONPATH goes before the usual one."""
        ours = self._environment["PYTHONPATH"]
        if "PYTHONPATH" in variables:
            variables["PYTHONPATH"] += os.pathsep + ours
        self._environment |= variables

    async def start(self) -> float:
        """Start the server. Return after how many seconds it was ready."""
        began = time.monotonic()
        errors = self._errors.open("ab") if self._errors else None
        self.process = await asyncio.create_subprocess_exec(
            *self._under, sys.executable, "-m", "server.cli", "serve", "--port", "0",
            cwd=self._folder, env=self._environment,
            stdout=asyncio.subprocess.PIPE, stderr=errors or asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if errors is not None:
            errors.close()
        assert self.process.stdout is not None
        first = (await self.process.stdout.readline()).decode()
        assert " on http://127.0.0.1:" in first, first
        self.port = int(first.split(" on ")[1].split(" ")[0].rsplit(":", 1)[1])
        while True:
            try:
                status, _ = await self.ask("GET", "/ready")
            except OSError:
                status = 0
            if status == 200:
                return time.monotonic() - began
            assert time.monotonic() - began < 30 and self.process.returncode is None
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """Kill the server with SIGKILL and wait until it has ended."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def ask(
        self, method: str, path: str, body: Any = None, token: str = "", kind: str = "application/json", **headers: str
    ) -> tuple[int, bytes]:
        """Send one request. Return its status and its whole body."""
        writer, reader = await self.open(method, path, body, token, kind, **headers)
        try:
            data = await reader.read()
        finally:
            await close(writer)
        head, _, rest = data.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), rest

    async def open(
        self, method: str, path: str, body: Any = None, token: str = "", kind: str = "application/json", **headers: str
    ) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
        """Send a request. Return the streams; the reply is not read yet."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n"
        head += f"Content-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
        head += f"Authorization: Bearer {token}\r\n" if token else ""
        head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        writer.write(head.encode() + b"\r\n" + data)
        await writer.drain()
        return writer, reader


@asynccontextmanager
async def serve_command(folder: Path, *arguments: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `dialgraph serve` on a free port in the folder, with these variables. Kill it at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "server.cli", "serve", "--port", "0", *arguments,
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def refused_start(folder: Path, **variables: str) -> str:
    """Run `dialgraph serve` when it must fail to start. Return its standard error."""
    async with serve_command(folder, **variables) as process:
        _, said = await process.communicate()
    assert process.returncode not in (0, None)
    return said.decode()


async def close(writer: asyncio.StreamWriter) -> None:
    """Close the connection, even if the other side is gone."""
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
