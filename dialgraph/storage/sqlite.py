"""SQLite: the settings of each connection, and the size of the journal next to the file."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

LARGEST_JOURNAL_BYTES = 64 * 2**20
"""The size to which the journal is cut when it starts again. It grows larger while a reader holds an old state open."""


class LettingGo(sqlite3.Connection):
    """A connection that ends its transaction when it is closed.

    A task that is cancelled between a statement and its rows leaves the rows open. SQLite then keeps the transaction of
    a closed connection until Python has freed every row.
    """

    def close(self) -> None:
        """Roll back uncommitted work, then close."""
        if self.in_transaction:
            self.rollback()
        super().close()


def prepare_writer(connection: Any, record: object) -> None:
    """Set up a connection that writes.

    WAL: readers do not wait for the writer. `synchronous=FULL`: a commit survives a loss of power. `secure_delete`:
    deleted data is overwritten.
    """
    connection.isolation_level = None
    limit = f"journal_size_limit={LARGEST_JOURNAL_BYTES}"
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", limit):
        connection.execute(f"PRAGMA {pragma}").close()


def prepare_reader(connection: Any, record: object) -> None:
    """Set up a connection that only reads."""
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON").close()


def begin_writing(connection: Connection) -> None:
    """Begin a transaction that may write, and wait for the lock now.

    A transaction that reads first and takes the lock later fails under load.
    """
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def begin_reading(connection: Connection) -> None:
    """Begin a transaction that sees one moment of the database."""
    connection.exec_driver_sql("BEGIN")


def journal_bytes(file: Path) -> int:
    """Return the size of this database's journal in bytes."""
    try:
        return Path(f"{file}-wal").stat().st_size
    except FileNotFoundError:
        return 0
