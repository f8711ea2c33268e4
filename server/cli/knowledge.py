"""`dialgraph knowledge`: index, list, search, remove, export, import, verify, rebuild."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

if TYPE_CHECKING:
    from dialgraph.passages import Passage
    from knowledge.ingest.jobs import Job
    from knowledge.open_stores import OpenStores

_NAMES_SHOWN = 5
app = typer.Typer(help="Manage the documents in a store.", no_args_is_help=True)
StoreName = Annotated[str, typer.Option("--store", help="The store's name in the settings.")]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="Only documents with this tag. Repeat it for documents with all of several tags."),
]


class Language(StrEnum):
    """The languages of documents."""

    ANY = ""
    ENGLISH = "en"
    CHINESE = "zh"


@app.command()
def index(
    paths: Annotated[list[Path], typer.Argument(help="Files (txt, md, html, csv, docx, pdf, pptx, xlsx), or folders.")],
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="A tag for these documents. Repeat it for several tags.")
    ] = None,
    store: StoreName = "main",
) -> None:
    """Add documents. A document of the same name is replaced; without `--tag` its tags stay. Equal content is free.

    The name of a document is the name of its file. In a folder, it is the path of the file from that folder.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from dialgraph.project import in_project
    from knowledge.files import files_at

    found = [path if path.exists() else in_project(path) for path in paths]
    files = files_at(found)

    async def work(stores: "OpenStores") -> bool:
        # An unknown store must raise before anything is queued.
        before = {known.name: known for known in await stores.store(store).documents()}
        ingestion = stores.ingestion
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        count, failed = 0, []
        with Progress(*columns) as progress:
            documents = progress.add_task("documents", total=len(files))
            passages = progress.add_task("passages", total=None)

            def hear(job: "Job", done: int, total: int) -> None:
                progress.update(passages, description=job.document, completed=done, total=total)

            for name, file in files.items():
                source = await asyncio.to_thread(file.read_bytes)
                tags = tag if tag is not None else before[name].tags if name in before else ()
                job = await ingestion.submit(store, name, source, tags)
                try:
                    await ingestion.work_off([job.id], hear)
                except asyncio.CancelledError:
                    await ingestion.jobs.cancel(job.id)
                    raise
                while (ended := await ingestion.jobs.get(job.id)) is not None and not ended.finished:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)  # a running server works on the job
                if ended is not None and ended.state == "done":
                    count += ended.done
                else:
                    reason = ended.error if ended is not None else ""
                    failed.append(f"dialgraph: {name}: {reason or 'The job was stopped.'}")
                await ingestion.jobs.forget(job.id)
                progress.advance(documents)
            progress.remove_task(passages)
        typer.echo(f"Documents: {len(files) - len(failed)}. Passages: {count}. Store: {store}.")
        after = {known.name: known for known in await stores.store(store).documents()}
        if replaced := [name for name in files if name in before and before[name] != after.get(name)]:
            typer.echo(f"Replaced: {', '.join(replaced)}.")
        if paths and all(path.is_dir() for path in found) and (others := [name for name in after if name not in files]):
            typer.echo(
                f"Also in the store, but not in this folder: {', '.join(others[:_NAMES_SHOWN])}"
                f"{f' and {len(others) - _NAMES_SHOWN} more' if len(others) > _NAMES_SHOWN else ''}."
                " `dialgraph knowledge remove NAME` deletes a document."
            )
        for line in failed:
            typer.echo(line, err=True)
        return not failed

    if not _run(work):
        raise typer.Exit(1)


@app.command("list")
def list_documents(
    store: StoreName = "main",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """List the documents of a store."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    known = _run(lambda stores: stores.store(store).documents())
    if json:
        for document in known:
            typer.echo(orjson.dumps(document).decode())
        return
    table = Table("document", "passages", "characters", "language", "tags", box=None)
    for document in known:
        table.add_row(
            escape(document.name),
            str(document.passages),
            str(document.characters),
            document.language,
            escape(", ".join(document.tags)),
        )
    Console().print(table)


@app.command()
def search(
    question: str,
    top_k: Annotated[int, typer.Option("--top-k", min=1, max=100, help="The largest number of passages.")] = 4,
    document: Annotated[list[str] | None, typer.Option(help="Only this document. Repeat it for several.")] = None,
    tag: Tags = None,
    language: Annotated[Language, typer.Option(help="Only documents in this language.")] = Language.ANY,
    all_of_them: Annotated[bool, typer.Option("--all", help="Also show passages that are not relevant.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    store: StoreName = "main",
) -> None:
    """Show the passages that match a question, best first, with the words of the question highlighted."""
    from dialgraph.passages import Filter

    only = Filter(tuple(document or ()), tuple(tag or ()), language.value)
    passages = _run(lambda stores: stores.store(store).search(question, top_k, only, 0.0 if all_of_them else None))
    if json:
        for passage in passages:
            typer.echo(orjson.dumps(passage).decode())
        return
    if not passages:
        typer.echo("No passage matches this question.")
    for passage in passages:
        _show(passage, question)


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(help="Names of documents, as `list` shows them.")],
    store: StoreName = "main",
) -> None:
    """Delete documents completely."""

    async def work(stores: "OpenStores") -> tuple[list[str], int]:
        held = [known.name for known in await stores.store(store).documents()]
        return held, await stores.store(store).remove(names)

    held, count = _run(work)
    typer.echo(f"Removed: {count} of {len(names)}.")
    for name in [name for name in names if name not in held]:
        near = get_close_matches(name, held, 1, 0.5)
        typer.echo(f"dialgraph: unknown document {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""), err=True)
    if count < len(names):
        raise typer.Exit(1)


@app.command()
def export(store: StoreName = "main") -> None:
    """Write every document with its passages to standard output, one JSON object per line."""
    from knowledge.ingest.exchange import exported

    async def work(stores: "OpenStores") -> None:
        async for line in exported(stores.store(store)):
            sys.stdout.buffer.write(line)

    _run(work)


@app.command("import")
def import_documents(
    file: Annotated[Path, typer.Argument(help="A file that `export` wrote.", exists=True, dir_okay=False)],
    store: StoreName = "main",
) -> None:
    """Import documents from another store. If one fails, none is imported."""
    from knowledge.ingest.exchange import imported

    documents = imported(file.read_bytes().splitlines())
    count = _run(lambda stores: stores.store(store).add(documents))
    typer.echo(f"Documents: {len(documents)}. Passages: {count}. Store: {store}.")


@app.command()
def verify(store: StoreName = "main") -> None:
    """Check that rows, words and vectors agree. `rebuild` repairs a damaged index."""
    faults = _run(lambda stores: stores.store(store).verify())
    for fault in faults:
        typer.echo(fault, err=True)
    if faults:
        raise typer.Exit(1)
    typer.echo("No fault found.")


@app.command()
def rebuild(store: StoreName = "main") -> None:
    """Build words and vectors again from the passages. Run it after you choose another embedder."""
    from rich.progress import Progress

    async def work(stores: "OpenStores") -> int:
        total = (await stores.store(store).stats()).passages
        with Progress() as progress:
            bar = progress.add_task("passages", total=total)
            return await stores.store(store).rebuild(lambda done: progress.update(bar, completed=done))

    typer.echo(f"Passages: {_run(work)}. Store: {store}.")


def _show(passage: "Passage", question: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from dialgraph.language.words import HAN_CHARACTER, is_stop_word, words

    page = f"page {passage.page}" if passage.page is not None else ""
    place = " › ".join(filter(None, (passage.document, page, passage.heading)))
    console = Console(highlight=False)
    console.print(Text(f"{passage.score:.2f} {place}", style="bold"), soft_wrap=True)
    asked = {unit for unit in words(question) if not is_stop_word(unit)}
    text = Text(passage.text)
    text.highlight_regex(r"[a-zA-Z0-9'’]+", lambda word: "bold green" if asked & set(words(word)) else None)
    for unit in asked:
        if HAN_CHARACTER.match(unit):
            text.highlight_words([unit], "bold green")
    console.print(text)


def _run(work: Callable[["OpenStores"], Coroutine[Any, Any, Any]]) -> Any:
    """Return the result of `work`, which runs with the stores of the settings."""
    from dialgraph.services.services import OpenServices
    from knowledge.open_stores import OpenStores
    from server.settings import ensure_data_dir, load_settings

    settings = load_settings()
    ensure_data_dir(settings)

    async def run() -> Any:
        services = OpenServices(settings)
        try:
            return await work(OpenStores.of(services))
        finally:
            await services.aclose()

    try:
        return asyncio.run(run())
    except KeyboardInterrupt:
        typer.echo("dialgraph: stopped. No document is half stored. Run the command again to continue.", err=True)
        raise typer.Exit(130) from None
