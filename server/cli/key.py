"""`dialgraph key`: create, list, revoke."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from server.keys import KeyFile

app = typer.Typer(help="The keys that callers must bring.", no_args_is_help=True)


@app.command()
def create(name: str) -> None:
    """Make a key; it is shown now and never again."""
    key = _file().create(name)
    typer.echo(key)
    typer.echo(f"The key {name!r} is kept as a hash only: copy it now. It counts for a running server too.", err=True)


@app.command(name="list")
def list_keys() -> None:
    """The names of the keys."""
    for name in _file().names():
        typer.echo(name)


@app.command()
def revoke(name: str) -> None:
    """Take a key back; a running server refuses it within a second."""
    _file().revoke(name)
    typer.echo(f"Revoked {name!r}.")


def _file() -> "KeyFile":
    from server.keys import KeyFile
    from server.settings import ensure_data_dir, load_settings

    settings = load_settings()
    ensure_data_dir(settings)
    return KeyFile(settings.data_dir)
