"""The call memory: what is stored of a call between its turns, one row per principal, endpoint and call."""

import time
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, MetaData, String, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from dialgraph.storage.database import Database
from dialgraph.storage.remembered import CallKey, Remembered
from dialgraph.storage.tables.accounts import USER

_USER = "user:"
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
    """Reads and writes the rows. An expired row is never returned, and the next write deletes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, key: CallKey) -> Remembered:
        """Return what is stored of this call; empty if there is nothing."""
        wanted = select(TABLE.c.stage, TABLE.c.slots).where(*_is(key), TABLE.c.expires_at > int(time.time()))
        async with self._database.transaction() as connection:
            row = (await connection.execute(wanted)).first()
        return Remembered(row.stage, row.slots) if row is not None else Remembered()

    async def save(self, key: CallKey, remembered: Remembered, lifetime_seconds: int) -> None:
        """Store this for the call. It expires after `lifetime_seconds`. Skip it if the user was deleted."""
        now = int(time.time())
        values = {
            "principal": key.principal, "endpoint": key.endpoint, "call_id": key.call_id,
            "stage": remembered.stage, "slots": dict(remembered.slots), "expires_at": now + lifetime_seconds,
        }  # fmt: skip
        changed = {name: values[name] for name in ("stage", "slots", "expires_at")}
        async with self._database.transaction() as connection:
            if key.principal.startswith(_USER) and not await _is_there(connection, key.principal.removeprefix(_USER)):
                return  # the user was deleted while the turn ran
            engine = postgresql if connection.dialect.name == "postgresql" else sqlite
            insert = engine.insert(TABLE).values(values)
            await connection.execute(insert.on_conflict_do_update(index_elements=TABLE.primary_key, set_=changed))
            await connection.execute(delete(TABLE).where(TABLE.c.expires_at <= now))


async def _is_there(connection: AsyncConnection, user: str) -> bool:
    wanted = select(USER.c.id).where(USER.c.id == user, USER.c.disabled.is_(False)).with_for_update(read=True)
    return await connection.scalar(wanted) is not None


def _is(key: CallKey) -> tuple[Any, ...]:
    return (
        TABLE.c.principal == key.principal, TABLE.c.endpoint == key.endpoint, TABLE.c.call_id == key.call_id,
    )  # fmt: skip
