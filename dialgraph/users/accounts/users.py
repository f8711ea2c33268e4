"""Users and their sessions. A session that has ended has no row, and its tokens are invalid."""

import secrets
import time
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from dialgraph.storage.database import Database
from dialgraph.storage.tables.accounts import KEY, SESSION, USER
from dialgraph.storage.text import cleaned
from dialgraph.users.accounts.errors import InvalidAccountError, NameTakenError, UnknownUserError, WrongPasswordError
from dialgraph.users.accounts.key_hash import hash_of
from dialgraph.users.accounts.passwords import Passwords
from dialgraph.users.accounts.tokens import Claims, Tokens

LONGEST_NAME = 64
DAY = 24 * 3600
REFRESH_SECONDS = 30 * DAY
REFRESH_PREFIX = "dr_"
"""The first characters of every refresh token."""


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Login:
    """The tokens that a login returns."""

    user: User
    access: str
    """The access token, which requests send."""
    seconds: int
    """How long the access token is valid."""
    refresh: str
    """The refresh token. It can be exchanged once for new tokens."""


class Users:
    """Reads and writes the rows of users and sessions."""

    def __init__(self, database: Database, passwords: Passwords, tokens: Tokens) -> None:
        self._database = database
        self._passwords = passwords
        self._tokens = tokens

    async def register(self, name: str, password: str) -> User:
        """Create a user. Raises InvalidAccountError, NameTakenError and BusyError."""
        shown = unicodedata.normalize("NFKC", name).strip()
        if not 0 < len(shown) <= LONGEST_NAME or not shown.isprintable():
            raise InvalidAccountError(f"A user's name must have 1 to {LONGEST_NAME} printable characters.")
        values = {
            "id": str(uuid4()), "name": shown, "name_key": key_of(name), "disabled": False,
            "password": await self._passwords.hash(password), "created_at": int(time.time()),
        }  # fmt: skip
        try:
            async with self._database.transaction() as connection:
                await connection.execute(insert(USER).values(values))
        except IntegrityError:
            raise NameTakenError(f"The name {shown!r} is taken.") from None
        return User(str(values["id"]), shown)

    async def login(self, name: str, password: str, *, access_seconds: int) -> Login:
        """Begin a session. Raises WrongPasswordError and BusyError.

        A wrong name and a wrong password take the same time, so that nobody can find out which names exist.
        """
        wanted = select(USER).where(USER.c.name_key == key_of(name))
        async with self._database.reading() as connection:
            row = (await connection.execute(wanted)).first()
        if not await self._passwords.matches(password, row.password if row else None) or row is None or row.disabled:
            raise WrongPasswordError("Invalid username or password.")
        user, session, now = User(row.id, row.name), str(uuid4()), int(time.time())
        refresh = _new_refresh(session)
        values = {
            "id": session, "user_id": user.id, "refresh": hash_of(refresh),
            "created_at": now, "expires_at": now + REFRESH_SECONDS,
        }  # fmt: skip
        same = select(USER.c.id).where(*_active(user.id), USER.c.password == row.password).with_for_update()
        async with self._database.transaction() as connection:
            if await connection.scalar(same) is None:  # the password changed while the hash was computed
                raise WrongPasswordError("Invalid username or password.")
            over = (SESSION.c.user_id == user.id, SESSION.c.expires_at <= now)
            await connection.execute(delete(SESSION).where(*over))
            await connection.execute(insert(SESSION).values(values))
        return self._login(user, session, refresh, access_seconds)

    async def refresh(self, token: str, *, access_seconds: int) -> Login | None:
        """Renew a session; return None if the token is invalid. A token that was already used ends the session, because
        one of the two who used it must have stolen it.
        """
        number = cleaned(token.removeprefix(REFRESH_PREFIX).partition(".")[0])
        new, now = _new_refresh(number), int(time.time())
        values = {"refresh": hash_of(new), "expires_at": now + REFRESH_SECONDS}
        valid = (SESSION.c.id == number, SESSION.c.refresh == hash_of(token), SESSION.c.expires_at > now)
        async with self._database.transaction() as connection:
            changed = update(SESSION).where(*valid).values(values).returning(SESSION.c.id, SESSION.c.user_id)
            session = (await connection.execute(changed)).first()
            if session is None:
                await connection.execute(delete(SESSION).where(SESSION.c.id == number))
                return None
            found = await connection.execute(select(USER.c.name).where(*_active(session.user_id)))
            if (row := found.first()) is None:
                return None
        return self._login(User(session.user_id, row.name), session.id, new, access_seconds)

    async def who(self, claims: Claims) -> User | None:
        """Return the user of a session that has not ended; else None."""
        wanted = (
            select(USER.c.id, USER.c.name)
            .join(SESSION, SESSION.c.user_id == USER.c.id)
            .where(SESSION.c.id == claims.session_id, SESSION.c.expires_at > int(time.time()), *_active(claims.user_id))
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(wanted)).first()
        return User(row.id, row.name) if row else None

    async def logout(self, user_id: str, session_id: str = "") -> None:
        """End this session; without a session id, end all sessions of the user."""
        which: list[Any] = [SESSION.c.user_id == user_id]
        if session_id:
            which.append(SESSION.c.id == session_id)
        async with self._database.transaction() as connection:
            await connection.execute(delete(SESSION).where(*which))

    async def change_password(self, user_id: str, old: str, new: str) -> None:
        """Change the password and end every session. Raises WrongPasswordError, InvalidAccountError and BusyError."""
        if not await self.has_password(user_id, old):
            raise WrongPasswordError("The current password is wrong.")
        await self.set_password(user_id, new)

    async def set_password(self, user_id: str, new: str) -> None:
        """Set the password without the old one, for the operator, and end every session.

        Raises InvalidAccountError and BusyError.
        """
        values = {"password": await self._passwords.hash(new)}
        async with self._database.transaction() as connection:
            await connection.execute(update(USER).where(USER.c.id == user_id).values(values))
            await connection.execute(delete(SESSION).where(SESSION.c.user_id == user_id))

    async def has_password(self, user_id: str, password: str) -> bool:
        """Return whether this is the user's password. Raises BusyError."""
        async with self._database.reading() as connection:
            kept = await connection.scalar(select(USER.c.password).where(*_active(user_id)))
        return await self._passwords.matches(password, kept)

    async def set_disabled(self, name: str, disabled: bool) -> bool:
        """Disable or enable the user. Returns whether there is a user with this name."""
        named = USER.c.name_key == key_of(name)
        async with self._database.transaction() as connection:
            changed = await connection.execute(update(USER).where(named).values(disabled=disabled))
            if disabled:
                users = select(USER.c.id).where(named)
                await connection.execute(delete(SESSION).where(SESSION.c.user_id.in_(users)))
        return bool(changed.rowcount)

    async def gone(self, users: Collection[str]) -> set[str]:
        """Return those of these users who are disabled or deleted."""
        there = select(USER.c.id).where(USER.c.id.in_(users), USER.c.disabled.is_(False))
        async with self._database.reading() as connection:
            return set(users) - set(await connection.scalars(there))

    async def all(self) -> list[tuple[str, bool]]:
        """Return the names of all users, in order, and whether each is disabled."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(USER.c.name, USER.c.disabled).order_by(USER.c.name_key))
            return [(row.name, row.disabled) for row in rows]

    async def any(self) -> bool:
        """Return whether there is a user."""
        async with self._database.reading() as connection:
            return await connection.scalar(select(USER.c.id).limit(1)) is not None

    async def known(self, name: str) -> User:
        """Return the user with this name. Raises UnknownUserError."""
        async with self._database.reading() as connection:
            row = (
                await connection.execute(select(USER.c.id, USER.c.name).where(USER.c.name_key == key_of(name)))
            ).first()
        if row is None:
            raise UnknownUserError(f"There is no user {name!r}.")
        return User(row.id, row.name)

    async def begin_erasing(self, user_id: str) -> None:
        """Disable the user and delete their sessions and keys: the account is about to be deleted."""
        values = {"disabled": True, "erased_at": int(time.time())}
        async with self._database.transaction() as connection:
            await connection.execute(update(USER).where(USER.c.id == user_id).values(values))
            await connection.execute(delete(SESSION).where(SESSION.c.user_id == user_id))
            await connection.execute(delete(KEY).where(KEY.c.user_id == user_id))

    async def being_erased(self) -> list[str]:
        """Return the ids of accounts whose deletion has begun but has not finished."""
        async with self._database.reading() as connection:
            return list(await connection.scalars(select(USER.c.id).where(USER.c.erased_at.is_not(None))))

    async def forget(self, user_id: str) -> None:
        """Delete the user with their sessions and keys. Everything else of theirs must be deleted before."""
        async with self._database.transaction() as connection:
            await connection.execute(delete(SESSION).where(SESSION.c.user_id == user_id))
            await connection.execute(delete(KEY).where(KEY.c.user_id == user_id))
            await connection.execute(delete(USER).where(USER.c.id == user_id))
        await self._database.forget_old_pages()

    def _login(self, user: User, session: str, refresh: str, seconds: int) -> Login:
        return Login(user, self._tokens.issue(Claims(user.id, session), seconds), seconds, refresh)


def key_of(name: str) -> str:
    """Return the form in which names are compared: the same for names that differ only in case or Unicode form."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cleaned(name)).casefold())
    return plain.strip()[: 3 * LONGEST_NAME]


def _active(user_id: str) -> tuple[Any, ...]:
    return USER.c.id == user_id, USER.c.disabled.is_(False)


def _new_refresh(session: str) -> str:
    return f"{REFRESH_PREFIX}{session}.{secrets.token_urlsafe(32)}"
