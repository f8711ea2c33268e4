"""`dialgraph graphs`: list, show, check, schema."""

from pathlib import Path
from typing import Annotated

import orjson
import typer

app = typer.Typer(help="List, show and check graphs.", no_args_is_help=True)


@app.command(name="list")
def list_graphs() -> None:
    """List the endpoints of langgraph.json."""
    from rich.console import Console
    from rich.table import Table

    from dialgraph.graph.errors import GraphError
    from dialgraph.project import langgraph_file
    from server.endpoints import try_endpoints

    endpoints, mistakes = try_endpoints(langgraph_file())
    table = Table("name", "path", "steps", "summary", box=None)
    for name, endpoint in endpoints.items():
        steps = " → ".join(step.id for step in endpoint.spec.steps)
        table.add_row(name, endpoint.spec.route_path, steps, endpoint.spec.summary)
    console = Console()
    console.print(table) if console.is_terminal else Console(width=240).print(table)
    if mistakes:
        raise GraphError("\n".join(dict.fromkeys(line for lines in mistakes.values() for line in lines)))


@app.command()
def show(name: str) -> None:
    """Print one graph as Mermaid text."""
    from server.endpoints import endpoint_named

    typer.echo(endpoint_named(name).graph.get_graph().draw_mermaid())


@app.command()
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="YAML or JSON graph files. Default: the graphs of langgraph.json.")
    ] = None,
) -> None:
    """Find mistakes in graphs without running them."""
    from dialgraph.graph.compile import compile_graph
    from dialgraph.graph.errors import GraphError
    from dialgraph.graph.spec import Graph
    from dialgraph.project import NO_PROJECT, ROOT, described, langgraph_file
    from dialgraph.services.services import OpenServices
    from server.endpoints import load_endpoints, open_names
    from server.settings import load_settings

    if not files:
        endpoints = load_endpoints(langgraph_file())
        open_names(endpoints, OpenServices(load_settings()))
        count = "1 graph is" if len(endpoints) == 1 else f"{len(endpoints)} graphs are"
        samples = (
            f" ({NO_PROJECT})" if described(always=True) == NO_PROJECT and not Path.cwd().is_relative_to(ROOT) else ""
        )
        typer.echo(f"{count} valid: {', '.join(endpoints)}{samples}")
        return
    for file in files:
        if not file.is_file():
            raise GraphError(f"{str(file)!r} does not exist or is not a file.")
        if file.suffix == ".py":
            raise GraphError(
                f"{str(file)!r} is no YAML or JSON file. `dialgraph graphs check` without a file checks the graphs of"
                " langgraph.json."
            )
        try:
            spec = Graph.from_file(file)
            compile_graph(spec, folder=file.parent)
        except GraphError as error:
            raise GraphError("\n".join(error.placed(str(file)))) from None
        typer.echo(f"{file}: {spec.name} is valid")


@app.command()
def schema() -> None:
    """Print the JSON Schema of graph files, for editors."""
    from dialgraph.graph.catalogue import catalogue
    from dialgraph.graph.schema import graph_schema

    typer.echo(orjson.dumps(graph_schema(catalogue()), option=orjson.OPT_INDENT_2).decode())
