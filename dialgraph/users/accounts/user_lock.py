"""That a user is there, held to the end of a transaction: what is made for him is not left behind when he goes."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dialgraph.storage.tables.accounts import USER
from dialgraph.users.accounts.errors import GoneUserError


async def lock_user(connection: AsyncConnection, user_id: str) -> None:
    """Raises GoneUserError."""
    wanted = select(USER.c.id).where(USER.c.id == user_id, USER.c.disabled.is_(False)).with_for_update(read=True)
    if await connection.scalar(wanted) is None:
        raise GoneUserError("There is no such user any more.")
