"""The database: SQLite in the data folder, or PostgreSQL by its URL. Data is committed before a request is answered."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from filelock import AsyncFileLock
from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from dialgraph.environment import in_thread
from dialgraph.storage.connections import BUSY_SECONDS, bring_up_to_date, options_of, prepare_connections
from dialgraph.storage.errors import DatabaseAwayError, DatabaseError
from dialgraph.storage.outage import Outage
from dialgraph.storage.sqlite import (
    LARGEST_JOURNAL_BYTES,
    begin_reading,
    journal_bytes,
    prepare_reader,
)
from dialgraph.storage.sqlite_readers import Readers
from dialgraph.storage.statement_timeout import patient

log = logging.getLogger(__name__)

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_CONNECTED_SECONDS = 1.0
"""How long to wait for a connection to PostgreSQL, from the pool or a new one."""

Found = TypeVar("Found")


class Database:
    """The connections of one process. Raises ValueError for an address with an unknown engine."""

    def __init__(self, url: str, data_dir: Path) -> None:
        scheme, _, rest = url.partition(":")
        if scheme not in DRIVERS:
            raise ValueError(f"database: no engine for {scheme!r}. Accepted: {', '.join(sorted(DRIVERS))}.")
        try:
            self._address = make_url(f"{DRIVERS[scheme]}:{rest or '//'}")
        except (ArgumentError, ValueError):  # for example a port that is not a number
            raise ValueError("database: the address cannot be read.") from None
        self._sqlite = scheme == "sqlite"
        self._readers: Readers | None = None
        if self._sqlite:
            # Absolute, because looking up the working folder later would block the event loop.
            file = Path(self._address.database) if self._address.database else data_dir / "dialgraph.db"
            self._address = self._address.set(database=str(file.absolute()))
            self._readers = Readers(file.absolute())
        self._engine: AsyncEngine = create_async_engine(self._address, **options_of(self._address))
        prepare_connections(self._engine.sync_engine)
        self._reading = self._reading_engine()
        self._locks: AsyncEngine = create_async_engine(self._address, poolclass=NullPool, **options_of(self._address))
        self._waiting: dict[str, asyncio.Lock] = {}
        self._opening = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._open = False
        self._journal = 0
        self._outage = Outage()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Return a connection whose work is committed at the end of the block, or not at all.

        Raises DatabaseAwayError and DatabaseFullError.
        """
        await self.open()
        async with self._turn_to_write():
            with self._outage.watched():
                async with self._connected(self._engine) as connection, connection.begin():
                    yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Return a connection that only reads, and so does not wait for a writer. Raises DatabaseAwayError."""
        await self.open()
        with self._outage.watched():
            async with self._connected(self._reading) as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """Return a connection that sees one moment of a PostgreSQL database, even while others write."""
        await self.open()
        with self._outage.watched():
            async with self._connected(self._engine) as connection:
                await connection.execution_options(isolation_level="REPEATABLE READ")
                async with connection.begin():
                    yield connection

    async def read(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        """Return what `work` reads from a SQLite file. It runs in a thread and sees one moment of the database."""
        if self._readers is None:
            raise ValueError("database: this is not a SQLite file.")
        await self.open()
        return await self._readers.read(work)

    async def read_apart(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        """Do the same for work that takes long, in a thread and with a connection that no other work waits for."""
        if self._readers is None:
            raise ValueError("database: this is not a SQLite file.")
        await self.open()
        return await in_thread(self._readers.apart, work)

    async def open(self) -> None:
        """Run the missing migrations, once."""
        if self._open:
            return
        async with self._opening:
            await in_thread(self.prepare)

    def prepare(self) -> None:
        """Run the missing migrations and block until they are done, for a server that has not started yet.

        Raises DatabaseError.
        """
        if not self._open:
            bring_up_to_date(self._address)
            self._open = True

    @asynccontextmanager
    async def alone(self, what: str) -> AsyncIterator[None]:
        """Hold the lock named `what` during the block: no other task or process can hold it.

        The lock ends with the process, even if the process is killed.
        """
        await self.open()
        if self._sqlite:
            async with AsyncFileLock(f"{self._address.database}.{quote(what, safe='')}.lock"):
                yield
            return
        # A task that waits here holds no connection that the work needs.
        with patient():
            async with self._waiting.setdefault(what, asyncio.Lock()), self._locks.connect() as connection:
                await connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:what, 0))"), {"what": what})
                await connection.commit()
                yield  # the lock ends with the connection, which is closed and not returned to a pool

    async def forget_old_pages(self) -> None:
        """Empty SQLite's journal, so that it holds no deleted data. A running reader delays this."""
        async with self._engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            if self._sqlite and driver is not None:
                await driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    async def answers(self) -> bool:
        """Return whether the database can be read now."""
        try:
            async with self.reading() as connection:
                await connection.execute(text("SELECT 1"))
        except DatabaseError:
            return False
        return True

    async def watch_journal(self) -> None:
        """Log a warning when SQLite's journal keeps growing: a program holds an old state of the database open."""
        if not self._sqlite:
            return
        size = await in_thread(journal_bytes, Path(self._address.database or ""))
        if size > max(LARGEST_JOURNAL_BYTES, self._journal):
            log.warning(
                "the database's journal grew: a program holds an old state open, or wrote much at the same time",
                extra={"megabytes": size >> 20},
            )
        self._journal = size

    @property
    def engine(self) -> str:
        """Return `sqlite` or `postgresql`."""
        return self._engine.dialect.name

    async def aclose(self) -> None:
        """Close every connection."""
        if self._readers is not None:
            await self._readers.aclose()
        await self._engine.dispose()
        await self._reading.dispose()

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """Return a connection. Raises DatabaseAwayError if there is none within a second."""
        if self._sqlite:
            async with engine.connect() as connection:
                yield connection
            return
        self._outage.refuse_at_once()
        connecting = engine.connect()
        try:
            async with asyncio.timeout(_CONNECTED_SECONDS):
                await connecting
        except TimeoutError:
            raise DatabaseAwayError("The database does not answer: there was no connection in time.") from None
        try:
            yield connecting
        finally:
            await connecting.close()

    @asynccontextmanager
    async def _turn_to_write(self) -> AsyncIterator[None]:
        """Wait until this task may write: SQLite has one writer. Tasks of this process wait here and are served in
        order. In SQLite itself all would sleep for up to a tenth of a second, and the first to wake would go on.
        """
        if not self._sqlite:
            yield
            return
        try:
            async with asyncio.timeout(BUSY_SECONDS):
                await self._writing.acquire()
        except TimeoutError:
            raise DatabaseAwayError("The database does not answer: other writers took too long.") from None
        try:
            yield
        finally:
            self._writing.release()

    def _reading_engine(self) -> AsyncEngine:
        """Return the engine for readers. PostgreSQL needs no separate one: its readers never wait for writers."""
        if not self._sqlite:
            return self._engine
        engine = create_async_engine(self._address, **options_of(self._address))
        event.listen(engine.sync_engine, "connect", prepare_reader)
        event.listen(engine.sync_engine, "begin", begin_reading)
        return engine
