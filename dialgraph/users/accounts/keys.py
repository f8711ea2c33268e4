"""API keys that users create, stored as hashes, each with its scopes."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import delete, insert, or_, select
from sqlalchemy.exc import IntegrityError

from dialgraph.storage.database import Database
from dialgraph.storage.tables.accounts import KEY, USER
from dialgraph.storage.text import cleaned
from dialgraph.users.accounts.errors import InvalidAccountError, NameTakenError
from dialgraph.users.accounts.key_hash import KEY_PREFIX, hash_of
from dialgraph.users.accounts.user_lock import lock_user
from dialgraph.users.accounts.users import User

SCOPES = ("chat", "conversations", "knowledge", "usage")
"""`chat` allows turns on every path. Each other scope allows what it names."""
MOST_KEYS = 100
"""The largest number of keys of one user."""


@dataclass(frozen=True, slots=True)
class UserKey:
    """What is known of a key, without the key itself."""

    id: str
    name: str
    ending: str
    """The last four characters of the key."""
    scopes: tuple[str, ...]
    token_budget: int | None
    """Tokens per calendar month; None: no limit."""
    created_at: int
    expires_at: int | None


class UserKeys:
    """Reads and writes the rows of the keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        user_id: str,
        name: str,
        scopes: Sequence[str] = SCOPES,
        *,
        token_budget: int | None = None,
        expires_at: int | None = None,
    ) -> tuple[UserKey, str]:
        """Create a key. Returns its row and the key itself, which is shown only once.

        Raises InvalidAccountError and NameTakenError, and GoneUserError if the user is deleted or disabled.
        """
        if not 1 <= len(name) <= 64 or not name.isprintable():
            raise InvalidAccountError("A key's name must have 1 to 64 printable characters.")
        if not scopes or (unknown := [scope for scope in scopes if scope not in SCOPES]):
            raise InvalidAccountError(f"Unknown scope {unknown[0] if scopes else ''!r}. Accepted: {', '.join(SCOPES)}.")
        if len(await self.of_user(user_id)) >= MOST_KEYS:
            raise InvalidAccountError(f"A user can have at most {MOST_KEYS} keys. Revoke one first.")
        key = KEY_PREFIX + secrets.token_urlsafe(32)
        values = {
            "id": str(uuid4()), "user_id": user_id, "name": name, "hash": hash_of(key), "ending": key[-4:],
            "scopes": sorted(set(scopes)), "token_budget": token_budget, "created_at": int(time.time()),
            "expires_at": expires_at,
        }  # fmt: skip
        try:
            async with self._database.transaction() as connection:
                await lock_user(connection, user_id)
                row = (await connection.execute(insert(KEY).values(values).returning(*_SHOWN))).one()
        except IntegrityError:
            raise NameTakenError(f"There is already a key {name!r}. Choose another name.") from None
        return _key(row), key

    async def of_user(self, user_id: str) -> list[UserKey]:
        """Return the user's keys, oldest first."""
        wanted = select(*_SHOWN).where(KEY.c.user_id == user_id).order_by(KEY.c.created_at, KEY.c.id)
        async with self._database.reading() as connection:
            return [_key(row) for row in await connection.execute(wanted)]

    async def revoke(self, user_id: str, key_id: str) -> bool:
        """Delete the key, so that it is refused from now on. Returns whether it was the user's."""
        async with self._database.transaction() as connection:
            gone = delete(KEY).where(KEY.c.id == cleaned(key_id), KEY.c.user_id == user_id)
            return bool((await connection.execute(gone)).rowcount)

    async def who(self, key: str) -> tuple[User, UserKey] | None:
        """Return the user of this key and its row; None if the key is invalid or expired."""
        living = or_(KEY.c.expires_at.is_(None), KEY.c.expires_at > int(time.time()))
        wanted = (
            select(*_SHOWN, USER.c.id.label("owner"), USER.c.name.label("owner_name"))
            .join(USER, USER.c.id == KEY.c.user_id)
            .where(KEY.c.hash == hash_of(key), USER.c.disabled.is_(False), living)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(wanted)).first()
        return (User(row.owner, row.owner_name), _key(row)) if row else None


_SHOWN = (
    KEY.c.id, KEY.c.name, KEY.c.ending, KEY.c.scopes, KEY.c.token_budget, KEY.c.created_at, KEY.c.expires_at,
)  # fmt: skip


def _key(row: Any) -> UserKey:
    return UserKey(row.id, row.name, row.ending, tuple(row.scopes), row.token_budget, row.created_at, row.expires_at)


async def holds_keys(database: Database) -> bool:
    """Return whether any user has a key."""
    async with database.reading() as connection:
        return await connection.scalar(select(KEY.c.id).limit(1)) is not None
