"""`dialgraph secret`: the keys that users' upstream keys are encrypted with."""

import typer

from server.cli.accounts import with_accounts

app = typer.Typer(help="The keys that users' upstream keys are encrypted with.", no_args_is_help=True)


@app.command()
def new() -> None:
    """Print a new encryption key: put it first into DIALGRAPH_ENCRYPTION_KEYS, the old one behind a comma."""
    from cryptography.fernet import Fernet

    typer.echo(Fernet.generate_key().decode())


@app.command()
def rotate() -> None:
    """Encrypt every upstream key with the newest encryption key; afterwards the older ones can go."""
    changed, unread = with_accounts(lambda kept: kept.conversations.rotate())
    typer.echo(f"Encrypted {changed} keys anew.")
    if unread:
        typer.echo(f"{unread} keys were encrypted with a key that the settings do not have.", err=True)
        raise typer.Exit(1)
