"""SQLite: what each connection is told, and the journal beside the file."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

LARGEST_JOURNAL_BYTES = 64 * 2**20
"""What is left of the journal when it begins anew. It grows beyond while a reader stays at an old state."""


class LettingGo(sqlite3.Connection):
    """Lets go of the file when it is closed. A task that is cancelled between a statement and its rows leaves them
    open, and SQLite keeps the transaction of a connection that is closed so until Python has forgotten every row.
    """

    def close(self) -> None:
        """Roll back what was not committed, then close."""
        if self.in_transaction:
            self.rollback()
        super().close()


def prepare_writer(connection: Any, record: object) -> None:
    """WAL: readers do not wait for the writer. FULL: a commit survives the loss of power. What is deleted is
    overwritten.
    """
    connection.isolation_level = None
    limit = f"journal_size_limit={LARGEST_JOURNAL_BYTES}"
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", limit):
        connection.execute(f"PRAGMA {pragma}").close()


def prepare_reader(connection: Any, record: object) -> None:
    """It writes nothing."""
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON").close()


def begin_writing(connection: Connection) -> None:
    """A transaction that begins by reading and then writes fails under load; one that waits its turn does not."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def begin_reading(connection: Connection) -> None:
    """One moment of the database."""
    connection.exec_driver_sql("BEGIN")


def journal_bytes(file: Path) -> int:
    """How large the journal of this database is."""
    try:
        return Path(f"{file}-wal").stat().st_size
    except FileNotFoundError:
        return 0
