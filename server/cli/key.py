"""`dialgraph key`: create, list, revoke."""

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.accounts import with_accounts

if TYPE_CHECKING:
    from server.access.key_file import KeyFile
    from server.users.user_stores import UserStores

app = typer.Typer(help="The keys that callers must bring.", no_args_is_help=True)
UserName = Annotated[str, typer.Option("--user", help="Whose key it is; without one it is the operator's.")]
Scopes = Annotated[
    list[str] | None, typer.Option("--scope", help="What a user's key opens: chat, conversations, knowledge, usage.")
]
Budget = Annotated[int | None, typer.Option(help="Tokens a calendar month, of a user's key.")]


@app.command()
def create(name: str, user: UserName = "", scope: Scopes = None, token_budget: Budget = None) -> None:
    """Make a key; it is shown now and never again. The operator's opens all endpoints, a user's what its scopes say."""
    key = _of_user(name, user, scope, token_budget) if user else _file().create(name)
    typer.echo(key)
    typer.echo(f"The key {name!r} is kept as a hash only: copy it now. A running server accepts it at once.", err=True)
    if not user:
        typer.echo("A server that accepted the access token now requires a key instead.", err=True)


@app.command(name="list")
def list_keys(user: UserName = "") -> None:
    """The names of the keys."""

    async def work(kept: "UserStores") -> list[str]:
        keys = await kept.accounts.keys.of_user((await kept.accounts.users.known(user)).id)
        return [f"{key.name}  …{key.ending}  {' '.join(key.scopes)}" for key in keys]

    for name in with_accounts(work) if user else _file().names():
        typer.echo(name)


@app.command()
def revoke(name: str, user: UserName = "") -> None:
    """Take a key back; a running server refuses it within a second."""

    async def work(kept: "UserStores") -> bool:
        owner = (await kept.accounts.users.known(user)).id
        named = [key.id for key in await kept.accounts.keys.of_user(owner) if key.name == name]
        return bool(named) and await kept.accounts.keys.revoke(owner, named[0])

    if not user:
        _file().revoke(name)
    elif not with_accounts(work):
        from dialgraph.users.accounts.errors import AccountError

        raise AccountError(f"No key {name!r} of {user!r}.")
    typer.echo(f"Revoked {name!r}.")


def _of_user(name: str, user: str, scopes: list[str] | None, token_budget: int | None) -> str:
    async def work(kept: "UserStores") -> str:
        from dialgraph.users.accounts.keys import SCOPES

        owner = (await kept.accounts.users.known(user)).id
        return (await kept.accounts.keys.create(owner, name, scopes or SCOPES, token_budget=token_budget))[1]

    return with_accounts(work)


def _file() -> "KeyFile":
    from server.access.key_file import KeyFile
    from server.settings import ensure_data_dir, load_settings

    settings = load_settings()
    ensure_data_dir(settings)
    return KeyFile(settings.data_dir)
