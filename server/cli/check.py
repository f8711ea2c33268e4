"""`dialgraph check URL`: check whether a server works with the clients of voice agents."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

if TYPE_CHECKING:
    from server.conformance.rules import Finding


def check(
    url: Annotated[str, typer.Argument(help="The base URL (…/v1), or the whole URL of chat completions.")],
    key: Annotated[
        str,
        typer.Option(
            help="The API key. Default for a server on this machine: its access token.",
            envvar="DIALGRAPH_CHECK_KEY",
        ),
    ] = "",
    model: Annotated[str, typer.Option(help="The value of `model` in the requests.")] = "",
    say: Annotated[str, typer.Option(help="What the caller says.")] = "Hello!",
    bye: Annotated[
        str, typer.Option(help="What the caller says to make the model call a tool.")
    ] = "Thank you, goodbye!",
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check any server against the rules of the wire. Exit code 1: it breaks a rule. Exit code 2: no server answers.

    The check sends about twenty requests and costs as much as twenty short answers.
    """
    import aiohttp

    from server.conformance.probes import Target, completions_url
    from server.conformance.probes import check as find
    from server.conformance.rules import RULES

    target = Target(completions_url(url), key or _access_token(url), model, say, bye)
    try:
        findings = asyncio.run(find(target))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        write = "" if url.startswith(("http://", "https://")) else " It must begin with http:// or https://."
        reason = "no server answers" if not write else "the URL is not valid"
        typer.echo(f"dialgraph: {target.url} cannot be checked: {reason}.{write}", err=True)
        raise typer.Exit(2) from None
    broken = [finding for finding in findings if finding.verdict == "broken"]
    if as_json:
        rows = [
            {"rule": one.rule, "verdict": one.verdict, "seen": one.seen, "says": RULES[one.rule].says,
             "breaks": RULES[one.rule].breaks if one.verdict == "broken" else ""}
            for one in findings
        ]  # fmt: skip
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(findings)
    raise typer.Exit(1 if broken else 0)


def _access_token(url: str) -> str:
    """Return the access token of our own server for a URL on this machine; empty for all others."""
    from urllib.parse import urlsplit

    from server.access.access_token import existing_access_token
    from server.connection.networks import is_loopback
    from server.settings import load_settings

    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return existing_access_token(load_settings().data_dir) if is_loopback(host) else ""


def _print(findings: list["Finding"]) -> None:
    from rich.console import Console
    from rich.table import Table

    from server.conformance.rules import RULES

    marks = {"kept": "[green]✓[/green]", "broken": "[red]✗[/red]", "not seen": "[dim]–[/dim]"}
    table = Table("", "rule", "seen", "who fails", box=None, pad_edge=False)
    for one in findings:
        rule = RULES[one.rule]
        told = one.seen if one.verdict == "broken" else "not seen" if one.verdict == "not seen" else ""
        table.add_row(marks[one.verdict], rule.says, told, rule.breaks if one.verdict == "broken" else "")
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)
    kept = sum(one.verdict == "kept" for one in findings)
    seen = sum(one.verdict != "not seen" for one in findings)
    console.print(f"\n[bold]{kept} of {seen}[/bold] rules kept" + ("" if kept == seen else f", {seen - kept} broken"))
