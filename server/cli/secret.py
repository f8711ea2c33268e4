"""`dialgraph secret`: the keys that encrypt users' upstream keys."""

import typer

from server.cli.accounts import with_accounts

app = typer.Typer(help="Manage the keys that encrypt users' upstream keys.", no_args_is_help=True)


@app.command()
def new() -> None:
    """Print a new encryption key. Put it first in DIALGRAPH_ENCRYPTION_KEYS, then a comma, then the old one."""
    from dialgraph.users.accounts.encryption import new_key

    typer.echo(new_key())


@app.command()
def rotate() -> None:
    """Encrypt every upstream key with the newest encryption key. After that, you can remove the older ones."""
    changed, unread = with_accounts(lambda kept: kept.conversations.rotate())
    typer.echo(f"Keys encrypted again: {changed}.")
    if unread:
        typer.echo(
            f"Keys that cannot be decrypted, because the settings lack their encryption key: {unread}.", err=True
        )
        raise typer.Exit(1)
