"""The database: SQLite in the data folder, or PostgreSQL by its URL. What was answered was committed before."""

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
"""For a connection of the pool, or a new one, to a PostgreSQL that answers."""

Found = TypeVar("Found")


class Database:
    """One process's connections. Raises ValueError for an address that names no engine of ours."""

    def __init__(self, url: str, data_dir: Path) -> None:
        scheme, _, rest = url.partition(":")
        if scheme not in DRIVERS:
            raise ValueError(f"database: no engine for {scheme!r}. Accepted: {', '.join(sorted(DRIVERS))}.")
        try:
            self._address = make_url(f"{DRIVERS[scheme]}:{rest or '//'}")
        except (ArgumentError, ValueError):  # a port that is no number
            raise ValueError("database: the address cannot be read.") from None
        self._sqlite = scheme == "sqlite"
        self._readers: Readers | None = None
        if self._sqlite:
            # Absolute: to ask for the working folder on the way would block the event loop.
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
        """A connection whose work is committed at the end of the block, or not at all.

        Raises DatabaseAwayError and DatabaseFullError.
        """
        await self.open()
        async with self._turn_to_write():
            with self._outage.watched():
                async with self._connected(self._engine) as connection, connection.begin():
                    yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection that only reads, and so waits for no writer. Raises DatabaseAwayError."""
        await self.open()
        with self._outage.watched():
            async with self._connected(self._reading) as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A connection that sees one moment of a PostgreSQL database, whatever others write meanwhile."""
        await self.open()
        with self._outage.watched():
            async with self._connected(self._engine) as connection:
                await connection.execution_options(isolation_level="REPEATABLE READ")
                async with connection.begin():
                    yield connection

    async def read(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        """What `work` finds in a SQLite file, in a thread, at one moment of the database."""
        if self._readers is None:
            raise ValueError("database: this is no SQLite file.")
        await self.open()
        return await self._readers.read(work)

    async def read_apart(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        """The same for work that takes long: in a thread and through a connection that nobody waits for."""
        if self._readers is None:
            raise ValueError("database: this is no SQLite file.")
        await self.open()
        return await in_thread(self._readers.apart, work)

    async def open(self) -> None:
        """Bring the database to the present form, once."""
        if self._open:
            return
        async with self._opening:
            await in_thread(self.prepare)

    def prepare(self) -> None:
        """The same at once, for a server that has not begun. Raises DatabaseError."""
        if not self._open:
            bring_up_to_date(self._address)
            self._open = True

    @asynccontextmanager
    async def alone(self, what: str) -> AsyncIterator[None]:
        """Nobody else does this meanwhile, in any process. Ends with the process, however that ends."""
        await self.open()
        if self._sqlite:
            async with AsyncFileLock(f"{self._address.database}.{quote(what, safe='')}.lock"):
                yield
            return
        # Those who wait here hold none of the connections that the work needs.
        with patient():
            async with self._waiting.setdefault(what, asyncio.Lock()), self._locks.connect() as connection:
                await connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:what, 0))"), {"what": what})
                await connection.commit()
                yield  # the lock goes with the connection, which is closed and not given back

    async def forget_old_pages(self) -> None:
        """Let no byte of what was deleted stand in SQLite's journal; a reader that is under way delays it."""
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
        """Tell the log when SQLite's journal grows without end: somebody holds an old state of the database open."""
        if not self._sqlite:
            return
        size = await in_thread(journal_bytes, Path(self._address.database or ""))
        if size > max(LARGEST_JOURNAL_BYTES, self._journal):
            log.warning(
                "the database's journal grows: a program holds an old state open, or has written much at once",
                extra={"megabytes": size >> 20},
            )
        self._journal = size

    @property
    def engine(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    async def aclose(self) -> None:
        """Give back every connection."""
        if self._readers is not None:
            await self._readers.aclose()
        await self._engine.dispose()
        await self._reading.dispose()

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """A connection, within a time in which a server that answers gives one. Raises DatabaseAwayError."""
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
            raise DatabaseAwayError("The database does not answer: no connection in time.") from None
        try:
            yield connecting
        finally:
            await connecting.close()

    @asynccontextmanager
    async def _turn_to_write(self) -> AsyncIterator[None]:
        """SQLite has one writer. Who waits for another of this process waits here and is served in turn; SQLite lets
        them all nap for up to a tenth of a second, and whoever wakes first goes first.
        """
        if not self._sqlite:
            yield
            return
        try:
            async with asyncio.timeout(BUSY_SECONDS):
                await self._writing.acquire()
        except TimeoutError:
            raise DatabaseAwayError("The database does not answer: others are writing for too long.") from None
        try:
            yield
        finally:
            self._writing.release()

    def _reading_engine(self) -> AsyncEngine:
        """PostgreSQL's readers wait for nobody anyway."""
        if not self._sqlite:
            return self._engine
        engine = create_async_engine(self._address, **options_of(self._address))
        event.listen(engine.sync_engine, "connect", prepare_reader)
        event.listen(engine.sync_engine, "begin", begin_reading)
        return engine
