"""`dialgraph user`: create, list, disable, enable, password, delete."""

import asyncio
from typing import TYPE_CHECKING

import typer

from server.cli.accounts import given_password, with_accounts

if TYPE_CHECKING:
    from dialgraph.users.accounts.users import User
    from server.users.user_stores import UserStores

app = typer.Typer(help="Manage the users who can log in.", no_args_is_help=True)


@app.command()
def create(name: str) -> None:
    """Create a user. The command asks for the password, or reads it from standard input."""
    password = given_password()
    with_accounts(lambda kept: kept.accounts.users.register(name, password))
    typer.echo(f"Created {name!r}.")


@app.command(name="list")
def list_users() -> None:
    """List the users by name."""
    for name, disabled in with_accounts(lambda kept: kept.accounts.users.all()):
        typer.echo(f"{name}  (disabled)" if disabled else name)


@app.command()
def disable(name: str) -> None:
    """Disable a user. Their sessions end within a second; their data stays."""
    _set(name, disabled=True)


@app.command()
def enable(name: str) -> None:
    """Enable a disabled user."""
    _set(name, disabled=False)


@app.command()
def password(name: str) -> None:
    """Set a new password for a user. Their sessions end."""
    given = given_password()

    async def work(kept: "UserStores") -> None:
        await kept.accounts.users.set_password((await _named(kept, name)).id, given)

    with_accounts(work)
    typer.echo(f"Changed the password of {name!r}.")


@app.command()
def delete(name: str, yes: bool = typer.Option(False, "--yes", help="Do not ask for confirmation.")) -> None:
    """Delete a user with everything that is stored about them."""
    if not yes:
        typer.confirm(f"Delete {name!r} with all conversations and knowledge bases?", abort=True)

    asyncio.run(_erase(name))
    typer.echo(f"Deleted {name!r}.")


def _set(name: str, *, disabled: bool) -> None:
    async def work(kept: "UserStores") -> None:
        await _named(kept, name)
        await kept.accounts.users.set_disabled(name, disabled)

    with_accounts(work)
    typer.echo(f"{'Disabled' if disabled else 'Enabled'} {name!r}.")


async def _erase(name: str) -> None:
    from server.settings import load_settings
    from server.state import open_state

    state = open_state(load_settings())
    try:
        await state.people.erase((await state.accounts.users.known(name)).id)
    finally:
        await state.aclose()


async def _named(kept: "UserStores", name: str) -> "User":
    return await kept.accounts.users.known(name)
