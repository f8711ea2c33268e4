"""Opens connections, and runs the migrations of a database before it is used."""

import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from dialgraph.storage.errors import DatabaseAwayError, DatabaseError
from dialgraph.storage.migrate import migrate
from dialgraph.storage.outage import said_by
from dialgraph.storage.sqlite import LettingGo, begin_writing, prepare_writer

log = logging.getLogger(__name__)

BUSY_SECONDS = 5


def options_of(address: URL) -> dict[str, Any]:
    """Return the options of an asynchronous engine. Parameters are hidden, so that errors do not log callers' words."""
    if address.get_backend_name() == "sqlite":
        return {"hide_parameters": True, "connect_args": {"timeout": BUSY_SECONDS, "factory": LettingGo}}
    from dialgraph.storage.postgres import WatchedConnection, connect_options

    connect = {**connect_options(), "async_creator_fn": WatchedConnection.connect}
    return {"hide_parameters": True, "connect_args": connect}


def prepare_connections(engine: Engine) -> None:
    """Prepare each connection of the engine for writing."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", prepare_writer)
        event.listen(engine, "begin", begin_writing)
    else:
        event.listen(engine, "connect", _prepare_postgres)


def bring_up_to_date(address: URL) -> None:
    """Create the database if there is none, and run every missing migration. Blocks until that is done.

    Raises DatabaseError, and DatabaseAwayError if it may succeed later.
    """
    embedded = address.get_backend_name() == "sqlite"
    file = Path(address.database or "")
    what = f"The database {file.name!r}" if embedded else "The database"
    if embedded and file.is_file() and not os.access(file, os.W_OK):
        raise DatabaseError(f"{what} cannot be written. Check the permissions of the file.")
    try:
        _migrate(address, embedded=embedded)
    except DBAPIError as error:
        kind = DatabaseError if embedded or not _may_come_back(error.orig) else DatabaseAwayError
        raise kind(f"{what} cannot be opened: {said_by(error)}") from error
    except OSError as error:
        raise DatabaseError(f"{what} cannot be opened: {error.strerror}.") from error


def _migrate(address: URL, *, embedded: bool) -> None:
    """Run the migrations with a plain, blocking connection, because Alembic blocks too: it reads files."""
    options = options_of(address)
    options["connect_args"].pop("async_creator_fn", None)
    engine = create_engine(address.set(drivername="sqlite") if embedded else address, **options)
    prepare_connections(engine)
    if embedded and not Path(address.database or "").exists():
        log.info("created a new database")
    # One process at a time: switching to WAL does not wait for a lock, it fails.
    alone = FileLock(f"{address.database}.lock") if embedded else nullcontext()
    try:
        with alone, engine.begin() as connection:
            if not embedded:
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('dialgraph-migrate', 0))"))
            migrate(connection)
    finally:
        engine.dispose()


def _prepare_postgres(connection: Any, record: object) -> None:
    # PostgreSQL compiles queries that it expects to be costly. That takes longer (20 to 100 ms) than the queries do.
    cursor = connection.cursor()
    cursor.execute("SET jit = off")
    cursor.close()
    connection.commit()


def _may_come_back(error: BaseException | None) -> bool:
    from dialgraph.storage.postgres import may_come_back

    return may_come_back(error)
