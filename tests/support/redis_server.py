"""A Redis server for one test, with its own folder. The test can freeze, stop and restart it."""

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis


def _run(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


@dataclass
class RunningRedis:
    """A Redis server that the test can freeze, stop and restart."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address of the server."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start the server. It does not save its data."""
        binary = shutil.which("redis-server")
        assert binary, "redis-server is missing: `make test` installs it on Debian and Ubuntu"
        await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = await asyncio.to_thread(_run, [binary, *arguments])
        for _ in range(500):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
        raise AssertionError("redis did not start")

    def stop(self) -> None:
        """Kill the server, also if it is frozen."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Suspend the server: it accepts connections but answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the server, so that it answers again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """Open a client of the server."""
        client: Redis = Redis.from_url(self.url)
        try:
            yield client
        finally:
            await client.aclose()


@asynccontextmanager
async def redis_server(folder: Path, *, started: bool = True) -> AsyncIterator[RunningRedis]:
    """Run a server on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = RunningRedis(folder, port)
    if started:
        await running.start()
    try:
        yield running
    finally:
        running.stop()
