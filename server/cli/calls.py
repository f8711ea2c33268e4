"""`dialgraph calls`: lists recorded calls, shows where their time went, exports, rates and erases them."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

if TYPE_CHECKING:
    from dialgraph.records.calls import RecordedCall
    from dialgraph.records.records import Records

app = typer.Typer(help="List, show, export, rate and erase recorded calls.", no_args_is_help=True)
CallId = Annotated[str, typer.Argument(help="The id of the call, as `list` shows it, or the beginning of it.")]
_BAR = 40


@app.command("list")
def list_calls(
    failed: Annotated[bool, typer.Option("--failed", help="Only calls with a turn that failed.")] = False,
    interrupted: Annotated[bool, typer.Option("--interrupted", help="Only calls with an interrupted answer.")] = False,
    slow: Annotated[int, typer.Option(help="Only calls in which a first word took longer, in milliseconds.")] = 0,
    tool: Annotated[str, typer.Option(help="Only calls that used this tool or action.")] = "",
    text: Annotated[str, typer.Option(help="Only calls in which this was said.")] = "",
    rating: Annotated[str, typer.Option(help="Only calls rated `good` or `bad`.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The most calls to list.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """List the recorded calls, the newest first."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    found = [
        call
        for call in _calls()
        if (not failed or call.failed)
        and (not interrupted or call.interrupted)
        and call.slowest_ms > slow * bool(slow)
        and (not tool or tool in call.tools)
        and (not text or call.holds(text))
        and (not rating or any(one.rating == rating for one in call.feedback))
    ][:limit]
    if json:
        for call in found:
            sys.stdout.buffer.write(orjson.dumps(asdict(call), option=orjson.OPT_APPEND_NEWLINE))
        return
    if not found:
        typer.echo("No recorded call matches. DIALGRAPH_RECORD says which calls are recorded.")
        return
    table = Table("call", "began", "endpoint", "turns", "state", "slowest", "outcome", "said first", box=None)
    for call in found:
        first, outcomes = call.turns[0], [turn.outcome for turn in call.turns if turn.outcome != "complete"]
        table.add_row(
            _shown(first.call[:36]), first.at[:19].replace("T", " "), first.endpoint, str(len(call.turns)), call.state,
            f"{call.slowest_ms:.0f} ms", outcomes[0] if outcomes else "complete", _shown(first.said[:60]),
        )  # fmt: skip
    console = Console()
    console.print(table) if console.is_terminal else Console(width=240).print(table)


@app.command()
def show(
    call: CallId,
    prompt: Annotated[bool, typer.Option("--prompt", help="Show what each model was sent.")] = False,
) -> None:
    """Show a call turn by turn, with a waterfall of the caller's wait."""
    from rich.console import Console

    console = Console(highlight=False)
    records = _records()
    found = _named(call)
    about = f"{found.turns[0].endpoint} · {found.turns[0].host} · {found.state}"
    console.print(f"[bold]{_shown(found.id)}[/bold] · {about}", soft_wrap=True)
    for turn in found.turns:
        lines = list(_lines(records.files.record(turn)))
        _show_turn(console, turn, lines, prompts=prompt)
    for one in found.feedback:
        console.print(f"rated {one.rating} at {one.at[:19].replace('T', ' ')} {_shown(one.note)}")


@app.command()
def export(call: CallId) -> None:
    """Write the records of a call to standard output, as JSON Lines."""
    records = _records()
    for turn in _named(call).turns:
        sys.stdout.buffer.write(records.files.record(turn))


@app.command()
def rate(
    call: CallId,
    rating: Annotated[str, typer.Argument(help="`good` or `bad`.")],
    note: Annotated[str, typer.Argument(help="Why.")] = "",
) -> None:
    """Say whether a call went well."""
    from dialgraph.records.calls import utc_now
    from dialgraph.records.files import Feedback

    if rating not in ("good", "bad"):
        raise typer.BadParameter("It must be `good` or `bad`.", param_hint="RATING")
    records, found = _records(), _named(call)
    at = utc_now().isoformat(timespec="milliseconds")
    records.files.add_feedback(Feedback(found.id, found.turns[0].principal, rating, records.redactor.text(note), at))
    typer.echo(f"Rated {rating}: {found.id}.")


@app.command()
def erase(
    call: Annotated[str, typer.Option(help="Erase this call.")] = "",
    caller: Annotated[str, typer.Option(help="Erase all calls of this phone number.")] = "",
    principal: Annotated[str, typer.Option(help="Erase all calls of this key or user, such as `user:7`.")] = "",
) -> None:
    """Erase the records of a call, a caller, or a key."""
    if not call and not caller and not principal:
        raise typer.BadParameter("Say what to erase: --call, --caller or --principal.")
    records = _records()
    redactor = records.redactor  # records show stand-ins, so the stand-in of what is given is looked for
    count = records.files.erase(call=redactor.text(call), caller=redactor.text(caller), principal=principal)
    typer.echo(f"Erased: {count} turns.")
    if not count:
        raise typer.Exit(1)


def _show_turn(console: Any, turn: Any, lines: list[dict[str, Any]], *, prompts: bool) -> None:
    end = next((line for line in lines if line["kind"] == "end"), {})
    console.print(f"\n[dim]{turn.at[11:19]}[/dim] caller: ", end="")
    console.print(_shown(turn.said) or "(nothing)", soft_wrap=True)
    console.print("         agent:  ", end="")
    console.print(_shown(turn.heard) or "(nothing)", soft_wrap=True)
    if turn.outcome != "complete":
        console.print(f"         [red]{turn.outcome}[/red]")
    for bar in waterfall(end.get("times", {}).get("parts", {})):
        console.print(f"         {bar}", markup=False)
    for line in lines:
        if line["kind"] == "called":
            console.print(f"         tool {_shown(line['tool'])} {_shown(str(line['arguments']))}", soft_wrap=True)
        if line["kind"] == "found":
            names = ", ".join(f"{one['document']} {one['score']:.2f}" for one in line["passages"])
            console.print(f"         found: {_shown(names) or 'nothing'}", soft_wrap=True)
        if prompts and line["kind"] == "asked":
            for message in line["messages"]:
                said = f"{message.get('role', ''):9} {message.get('content')}"
                console.print(f"         {_shown(said)}", soft_wrap=True)


def _shown(text: str) -> str:
    """Return a text that somebody else chose: without rich's markup and without codes that control a terminal."""
    from rich.markup import escape

    return escape("".join(one if one.isprintable() or one == " " else " " for one in text))


def _lines(record: bytes) -> Iterator[dict[str, Any]]:
    """Yield the lines of a record. A damaged line is left out."""
    for line in record.splitlines():
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError:
            continue


def waterfall(parts: dict[str, float]) -> list[str]:
    """Return the parts of a wait as lines with bars, each beginning where the one before ends."""
    whole = sum(parts.values()) or 1.0
    width = max((len(name) for name in parts), default=0)
    lines, at = [], 0.0
    for name, ms in parts.items():
        begin, end = round(at / whole * _BAR), round((at + ms) / whole * _BAR)
        bar = " " * begin + ("█" * (end - begin) or "▏")
        lines.append(f"{name:{width}}  {ms:8.1f} ms  {bar}")
        at += ms
    return lines


def _records() -> "Records":
    from dialgraph.records.records import Records
    from server.settings import load_settings

    return Records(load_settings())


def _calls() -> "list[RecordedCall]":
    from dialgraph.records.calls import calls_of, utc_now
    from server.settings import load_settings

    settings, records = load_settings(), _records()
    return calls_of(records.files.summaries(), records.files.feedback(), settings.call_idle_minutes, utc_now())


def _named(call: str) -> "RecordedCall":
    """Return the newest call with this id, or whose id begins with it. Raises GraphError."""
    from dialgraph.graph.errors import GraphError

    redacted = _records().redactor.text(call)
    found = [one for one in _calls() if redacted in (one.id, one.turns[0].id) or one.id.startswith(call)]
    if not found:
        raise GraphError(f"No recorded call {call!r}. `dialgraph calls list` shows them.")
    return found[0]
