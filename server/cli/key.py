"""`dialgraph key`: create, list, revoke."""

from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.accounts import with_accounts

if TYPE_CHECKING:
    from server.access.key_file import KeyFile
    from server.users.user_stores import UserStores

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
UserName = Annotated[str, typer.Option("--user", help="The user who owns the key. Default: the operator.")]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        help="A scope of a user's key: chat, conversations, knowledge or usage. Repeat it for several. Default: all.",
    ),
]
Budget = Annotated[int | None, typer.Option(help="Tokens that a user's key may use in a calendar month.")]


@app.command()
def create(name: str, user: UserName = "", scope: Scopes = None, token_budget: Budget = None) -> None:
    """Create a key and show it once. An operator's key opens all endpoints, a user's key what its scopes allow."""
    key = _of_user(name, user, scope, token_budget) if user else _file().create(name)
    typer.echo(key)
    typer.echo(
        f"Copy the key {name!r} now: only its hash is stored. A running server accepts it within a second.", err=True
    )
    if not user:
        typer.echo("From now on the server requires a key and does not accept the access token any more.", err=True)


@app.command(name="list")
def list_keys(user: UserName = "") -> None:
    """List the keys by name."""

    async def work(kept: "UserStores") -> list[str]:
        keys = await kept.accounts.keys.of_user((await kept.accounts.users.known(user)).id)
        return [f"{key.name}  …{key.ending}  {' '.join(key.scopes)}" for key in keys]

    for name in with_accounts(work) if user else _file().names():
        typer.echo(name)


@app.command()
def revoke(name: str, user: UserName = "") -> None:
    """Revoke a key. A running server refuses it within a second."""

    async def work(kept: "UserStores") -> bool:
        owner = (await kept.accounts.users.known(user)).id
        named = [key.id for key in await kept.accounts.keys.of_user(owner) if key.name == name]
        return bool(named) and await kept.accounts.keys.revoke(owner, named[0])

    if not user:
        _file().revoke(name)
    elif not with_accounts(work):
        from dialgraph.users.accounts.errors import AccountError

        raise AccountError(f"The user {user!r} has no key {name!r}.")
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
