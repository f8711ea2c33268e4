"""Locks a user's row until the end of a transaction, so that nothing is created for a user who is being deleted."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dialgraph.storage.tables.accounts import USER
from dialgraph.users.accounts.errors import GoneUserError


async def lock_user(connection: AsyncConnection, user_id: str) -> None:
    """Lock the user's row. Raises GoneUserError if the user is deleted or disabled."""
    wanted = select(USER.c.id).where(USER.c.id == user_id, USER.c.disabled.is_(False)).with_for_update(read=True)
    if await connection.scalar(wanted) is None:
        raise GoneUserError("This user was deleted or disabled.")
