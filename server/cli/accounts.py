"""Helpers of the commands about users: open the accounts of the settings, and read a password."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from getpass import getpass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from server.users.user_stores import UserStores

Found = TypeVar("Found")


def with_accounts(work: "Callable[[UserStores], Coroutine[Any, Any, Found]]") -> Found:
    """Return the result of `work`, which runs with the accounts of the settings. Raises SettingsError."""
    from dialgraph.storage.database import Database
    from server.settings import SettingsError, load_settings
    from server.users.user_stores import open_user_stores

    settings = load_settings()

    async def run() -> Found:
        try:
            database = Database(settings.database_url.get_secret_value(), settings.data_dir)
        except ValueError as error:
            raise SettingsError(f"Setting {error}") from None
        try:
            kept = open_user_stores(settings, database)
            try:
                return await work(kept)
            finally:
                await kept.aclose()
        finally:
            await database.aclose()

    return asyncio.run(run())


def given_password() -> str:
    """Return a password that is typed twice or read from a pipe. Raises InvalidAccountError if they differ."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass("Password: ")
    if first != getpass("Again: "):
        from dialgraph.users.accounts.errors import InvalidAccountError

        raise InvalidAccountError("The two passwords are different.")
    return first
