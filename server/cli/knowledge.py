"""`dialgraph knowledge`: index, search."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

if TYPE_CHECKING:
    from graphs.services import OpenServices

app = typer.Typer(help="What the endpoints know.", no_args_is_help=True)
StoreName = Annotated[str, typer.Option("--store", help="The store's name in the settings.")]


@app.command()
def index(
    paths: Annotated[list[Path], typer.Argument(help="Text and Markdown files, or folders of them.")],
    store: StoreName = "main",
) -> None:
    """Take documents in; a document of the same name is replaced."""
    from rich.progress import Progress

    from knowledge.documents import read_documents

    documents = read_documents(paths)
    with Progress() as progress:
        bar = progress.add_task("indexing", total=len(documents))
        count = asyncio.run(_services().store(store).add(documents, lambda done: progress.update(bar, completed=done)))
    typer.echo(f"Documents: {len(documents)}. Passages: {count}. Store: {store}.")


@app.command()
def search(
    question: str,
    top_k: Annotated[int, typer.Option("--top-k", min=1, max=50, help="How many passages.")] = 4,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    store: StoreName = "main",
) -> None:
    """The passages that speak to a question, best first."""
    from rich.console import Console

    passages = asyncio.run(_services().store(store).search(question, top_k))
    if json:
        for passage in passages:
            typer.echo(orjson.dumps(passage).decode())
        return
    if not passages:
        typer.echo("Nothing speaks to this question.")
    console = Console()
    for passage in passages:
        place = " › ".join(filter(None, (passage.document, passage.heading)))
        console.print(f"[bold]{passage.score:.2f}[/bold] {place}", highlight=False, soft_wrap=True)
        console.print(passage.text, highlight=False, markup=False)


def _services() -> "OpenServices":
    from graphs.services import OpenServices
    from server.settings import ensure_data_dir, load_settings

    settings = load_settings()
    ensure_data_dir(settings)
    return OpenServices(settings)
