"""What commands about users have in common: the accounts of the settings, opened and closed again."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from getpass import getpass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from server.state import ServerState

Found = TypeVar("Found")


def with_accounts(work: "Callable[[ServerState], Coroutine[Any, Any, Found]]") -> Found:
    """What the work gives."""
    from server.settings import load_settings
    from server.state import open_state

    settings = load_settings()

    async def run() -> Found:
        state = open_state(settings)
        try:
            return await work(state)
        finally:
            await state.accounts.aclose()
            await state.cache.aclose()
            await state.services.aclose()

    return asyncio.run(run())


def given_password() -> str:
    """A password that is typed twice, or read from a pipe."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass("Password: ")
    if first != getpass("Again: "):
        from accounts.errors import InvalidAccountError

        raise InvalidAccountError("The two passwords are not the same.")
    return first
