"""Readers of a SQLite file: plain connections in separate threads. Each read sees one moment of the database.

A search makes a dozen small queries. Through the writer's async connection each query would change threads, which costs
more than the query. With WAL a reader does not wait for a writer.
"""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock, local
from typing import TypeVar

from dialgraph.environment import in_thread

_THREADS = 2
_MAPPED_BYTES = 2**30
_CACHE_KIB = 32 * 1024

Found = TypeVar("Found")


class Readers:
    """A few threads with one connection each, opened at the first use."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="knowledge-reader")
        self._own = local()
        self._all: list[sqlite3.Connection] = []
        self._opening = Lock()

    async def read(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        """Return what `work` returns. It runs in one of the threads, within one read transaction."""
        return await in_thread(self._run, work, executor=self._threads)

    def apart(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        """Return what `work` returns. It runs in the calling thread, with a new connection."""
        connection = self._connect()
        try:
            connection.execute("BEGIN")
            return work(connection)
        finally:
            connection.close()

    async def aclose(self) -> None:
        """Stop the threads and close their connections."""
        await in_thread(self._threads.shutdown)
        for connection in self._all:
            connection.close()
        self._all.clear()

    def _run(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._open()
        connection.execute("BEGIN")
        try:
            return work(connection)
        finally:
            connection.execute("ROLLBACK")

    def _open(self) -> sqlite3.Connection:
        connection = self._connect()
        with self._opening:
            self._all.append(connection)
        return connection

    def _connect(self) -> sqlite3.Connection:
        # `check_same_thread=False`, because aclose closes it from another thread, when no work is left.
        connection = sqlite3.connect(
            f"{self._file.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5, check_same_thread=False
        )
        for pragma in (f"mmap_size={_MAPPED_BYTES}", f"cache_size=-{_CACHE_KIB}", "query_only=ON"):
            connection.execute(f"PRAGMA {pragma}").close()
        return connection
