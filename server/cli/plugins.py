"""`dialgraph plugins`: lists what other installed packages bring."""

import typer


def list_plugins() -> None:
    """List the nodes, engines and host profiles of installed packages, and say which of them cannot be used."""
    from dialgraph.plugins import GROUPS, PluginError, loaded, package_of, plugins

    count, broken = 0, False
    for kind in GROUPS:
        for name, plugin in plugins(kind).items():
            count += 1
            try:
                loaded(kind, name)
                typer.echo(f"{kind:13} {name:20} {plugin.value}  ({package_of(plugin)})")
            except PluginError as error:
                broken = True
                typer.echo(f"{kind:13} {name:20} cannot be used: {error}")
    if not count:
        typer.echo("No installed package brings plugins. docs/projects.md says how one does.")
    if broken:
        raise typer.Exit(1)
