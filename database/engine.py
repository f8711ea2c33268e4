"""The database: SQLite in the data folder, or PostgreSQL by its URL. What was answered was committed before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import AsyncFileLock
from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from database.migrate import migrate

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_BUSY_SECONDS = 5


class Database:
    """One process's connections. Raises ValueError for an address that names no engine of ours."""

    def __init__(self, url: str, data_dir: Path) -> None:
        scheme, _, rest = url.partition(":")
        if scheme not in DRIVERS:
            raise ValueError(f"database: no engine for {scheme!r}. Accepted: {', '.join(sorted(DRIVERS))}.")
        try:
            address = make_url(f"{DRIVERS[scheme]}:{rest or '//'}")
        except ArgumentError:
            raise ValueError("database: the address cannot be read.") from None
        self._sqlite = scheme == "sqlite"
        if self._sqlite and not address.database:
            address = address.set(database=str(data_dir / "dialgraph.db"))
        self._lock = f"{address.database}.lock" if self._sqlite else ""
        options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_SECONDS}} if self._sqlite else {}
        self._engine: AsyncEngine = create_async_engine(address, **options)
        if self._sqlite:
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_immediate)
        self._opening = asyncio.Lock()
        self._open = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose work is committed at the end of the block, or not at all."""
        await self._migrated()
        async with self._engine.begin() as connection:
            yield connection

    async def aclose(self) -> None:
        """Give back every connection."""
        await self._engine.dispose()

    async def _migrated(self) -> None:
        async with self._opening:
            if not self._open:
                # One process at a time: the change to WAL does not wait for a lock, it fails.
                alone = AsyncFileLock(self._lock) if self._lock else nullcontext()
                async with alone, self._engine.begin() as connection:
                    await connection.run_sync(migrate)
                self._open = True


def _prepare_sqlite(connection: Any, record: object) -> None:
    # WAL: readers do not wait for the writer. FULL: a commit survives the loss of power.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_immediate(connection: Connection) -> None:
    # A transaction that begins by reading and then writes fails under load; one that waits its turn does not.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
