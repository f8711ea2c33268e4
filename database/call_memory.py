"""What is kept of a call between its turns: one row a principal, endpoint and call."""

import time
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, MetaData, String, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from database.engine import Database
from database.remembered import CallKey, Remembered

TABLE = Table(
    "call_memory",
    MetaData(),
    Column("principal", String(64), primary_key=True),
    Column("endpoint", String(64), primary_key=True),
    Column("call_id", String(1024), primary_key=True),
    Column("stage", String(64), nullable=False),
    Column("slots", JSON, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)


class CallMemoryTable:
    """Reads and writes the rows; what has expired is not there, and goes with the next write."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, key: CallKey) -> Remembered:
        """What is kept of this call; empty if nothing is."""
        wanted = select(TABLE.c.stage, TABLE.c.slots).where(*_is(key), TABLE.c.expires_at > int(time.time()))
        async with self._database.transaction() as connection:
            row = (await connection.execute(wanted)).first()
        return Remembered(row.stage, row.slots) if row is not None else Remembered()

    async def save(self, key: CallKey, remembered: Remembered, lifetime_seconds: int) -> None:
        """Keep this of the call, for so long."""
        now = int(time.time())
        values = {
            "principal": key.principal, "endpoint": key.endpoint, "call_id": key.call_id,
            "stage": remembered.stage, "slots": dict(remembered.slots), "expires_at": now + lifetime_seconds,
        }  # fmt: skip
        changed = {name: values[name] for name in ("stage", "slots", "expires_at")}
        async with self._database.transaction() as connection:
            engine = postgresql if connection.dialect.name == "postgresql" else sqlite
            insert = engine.insert(TABLE).values(values)
            await connection.execute(insert.on_conflict_do_update(index_elements=TABLE.primary_key, set_=changed))
            await connection.execute(delete(TABLE).where(TABLE.c.expires_at <= now))

    async def forget(self, principal: str) -> None:
        """Delete what is kept of the calls of this principal."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(TABLE).where(TABLE.c.principal == principal))


def _is(key: CallKey) -> tuple[Any, ...]:
    return (
        TABLE.c.principal == key.principal, TABLE.c.endpoint == key.endpoint, TABLE.c.call_id == key.call_id,
    )  # fmt: skip
