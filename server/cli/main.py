"""The command `dialgraph`: its subcommands, and the conversion of their errors to one line and an exit code."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from dialgraph.project import described, langgraph_file, make_importable
from server.cli import calls, chat, check, doctor, graphs, key, knowledge, new, plugins, say, secret, usage, user

app = typer.Typer(
    name="dialgraph",
    help="Serve voice-agent endpoints that are compiled from graphs of small nodes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(graphs.app, name="graphs")
app.add_typer(knowledge.app, name="knowledge")
app.add_typer(calls.app, name="calls")
app.add_typer(user.app, name="user")
app.add_typer(key.app, name="key")
app.add_typer(secret.app, name="secret")
app.command(name="chat")(chat.chat)
app.command(name="say")(say.say)
app.command(name="new")(new.new)
app.command(name="doctor")(doctor.doctor)
app.command(name="plugins")(plugins.list_plugins)
app.command(name="check")(check.check)
app.command(name="usage")(usage.usage)


_IN_A_PROJECT = ("serve", "chat", "graphs", "knowledge", "calls")
"""The commands that say which project they use."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dialgraph {version('dialgraph')}")
        raise typer.Exit


@app.callback()
def dialgraph(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Serve voice-agent endpoints that are compiled from graphs of small nodes."""
    make_importable(langgraph_file())  # settings may name engines in the project
    if context.invoked_subcommand in _IN_A_PROJECT and (line := described()):
        typer.echo(line, err=True)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on. Default: DIALGRAPH_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on. Default: DIALGRAPH_PORT.")] = None,
    reload: Annotated[bool, typer.Option(help="Restart when a file changes; for development.")] = False,
) -> None:
    """Serve the endpoints over HTTP."""
    import gc

    from server.access.auth import Authenticator
    from server.logs import set_up_logging
    from server.process.sockets import listen
    from server.settings import ensure_data_dir, load_settings

    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = load_settings(**given)
    set_up_logging(settings.log_level, settings.log_format)
    if reload:
        from server.process.reload import serve_reloading

        serve_reloading(settings)
    else:
        # Find mistakes in the settings before the imports, which take two seconds.
        ensure_data_dir(settings)
        Authenticator(settings)
        listener = listen(settings)
        gc.disable()  # the collector took a sixth of the imports' time and found nothing to free
        from server.process.serve import serve as serve_process

        serve_process(settings, listener)


def main() -> None:
    """Run the command line. An error that the operator can fix becomes one line and exit code 1."""
    from dialgraph.graph.errors import GraphError
    from dialgraph.passages import StoreError
    from dialgraph.services.errors import UnknownServiceError
    from dialgraph.speech.port import VoiceError
    from dialgraph.storage.errors import DatabaseError
    from dialgraph.users.accounts.errors import AccountError
    from server.access.key_file import KeyFileError
    from server.cli.new import ProjectError
    from server.settings import SettingsError

    try:
        app()
    except (
        AccountError, DatabaseError, GraphError, KeyFileError, ProjectError, SettingsError, StoreError,
        UnknownServiceError, VoiceError,
    ) as error:  # fmt: skip
        sys.stderr.write(f"dialgraph: {error}\n")
        sys.exit(1)
