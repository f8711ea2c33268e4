"""How connections are opened, and how a database is brought to the present form before anybody uses it."""

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
    """What an asynchronous engine is made with. Errors tell no caller's words to the log."""
    if address.get_backend_name() == "sqlite":
        return {"hide_parameters": True, "connect_args": {"timeout": BUSY_SECONDS, "factory": LettingGo}}
    from dialgraph.storage.postgres import WatchedConnection, connect_options

    connect = {**connect_options(), "async_creator_fn": WatchedConnection.connect}
    return {"hide_parameters": True, "connect_args": connect}


def prepare_connections(engine: Engine) -> None:
    """Set up each connection of the engine as one that may write."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", prepare_writer)
        event.listen(engine, "begin", begin_writing)
    else:
        event.listen(engine, "connect", _prepare_postgres)


def bring_up_to_date(address: URL) -> None:
    """Make the database if there is none, and take every step of the migrations that is missing. Blocks.

    Raises DatabaseError, and DatabaseAwayError where it may succeed later.
    """
    embedded = address.get_backend_name() == "sqlite"
    file = Path(address.database or "")
    what = f"The database {file.name!r}" if embedded else "The database"
    if embedded and file.is_file() and not os.access(file, os.W_OK):
        raise DatabaseError(f"{what} cannot be written.")
    try:
        _migrate(address, embedded=embedded)
    except DBAPIError as error:
        kind = DatabaseError if embedded or not _may_come_back(error.orig) else DatabaseAwayError
        raise kind(f"{what} cannot be opened: {said_by(error)}") from error
    except OSError as error:
        raise DatabaseError(f"{what} cannot be opened: {error.strerror}.") from error


def _migrate(address: URL, *, embedded: bool) -> None:
    """Through a plain connection: Alembic reads files."""
    options = options_of(address)
    options["connect_args"].pop("async_creator_fn", None)
    engine = create_engine(address.set(drivername="sqlite") if embedded else address, **options)
    prepare_connections(engine)
    if embedded and not Path(address.database or "").exists():
        log.info("a new database is made")
    # One process at a time: the change to WAL does not wait for a lock, it fails.
    alone = FileLock(f"{address.database}.lock") if embedded else nullcontext()
    try:
        with alone, engine.begin() as connection:
            if not embedded:
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('dialgraph-migrate', 0))"))
            migrate(connection)
    finally:
        engine.dispose()


def _prepare_postgres(connection: Any, record: object) -> None:
    # PostgreSQL compiles what it believes to be costly, which takes it longer (20 to 100 ms) than to do it.
    cursor = connection.cursor()
    cursor.execute("SET jit = off")
    cursor.close()
    connection.commit()


def _may_come_back(error: BaseException | None) -> bool:
    from dialgraph.storage.postgres import may_come_back

    return may_come_back(error)
