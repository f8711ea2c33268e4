"""`dialgraph usage`: tokens and costs of all turns, for the operator."""

import asyncio
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer

_DAY_MS = 24 * 3600 * 1000


class By(StrEnum):
    """What the turns are grouped by."""

    ENDPOINT = "endpoint"
    MODEL = "model"
    PRINCIPAL = "principal"
    CALL = "call"


_COLUMNS = {By.ENDPOINT: "endpoint", By.MODEL: "answered_by", By.PRINCIPAL: "principal", By.CALL: "call_id"}


def usage(
    by: Annotated[list[By] | None, typer.Option(help="Group by this. Repeat it for several.")] = None,
    days: Annotated[int, typer.Option(min=1, help="The last days to count.")] = 30,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Show the tokens and the cost of all turns, the most expensive group first."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    chosen = by or [By.ENDPOINT, By.MODEL]
    rows = asyncio.run(_rows([_COLUMNS[one] for one in chosen], days))
    if json:
        for row in rows:
            sys.stdout.buffer.write(
                orjson.dumps(
                    {str(name): value for name, value in row._asdict().items()}, option=orjson.OPT_APPEND_NEWLINE
                )
            )
        return
    table = Table(*map(str, chosen), "turns", "prompt", "completion", "cost", "list price", "without price", box=None)
    for row in rows:
        names = [escape(str(row[at] or "")) for at in range(len(chosen))]
        counts = (row.turns, row.prompt_tokens, row.completion_tokens)
        table.add_row(
            *names, *map(str, counts), _dollars(row.cost_usd), _dollars(row.list_cost_usd), str(row.without_price)
        )
    console = Console(highlight=False)
    console.print(table) if console.is_terminal else Console(width=240, highlight=False).print(table)
    if any(row.without_price for row in rows):
        typer.echo("The cost of some turns is not known: add their models to the file of DIALGRAPH_PRICES.")


def _dollars(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:.4f}"


async def _rows(by: Sequence[str], days: int) -> Sequence[Any]:
    from dialgraph.services.services import OpenServices
    from server.settings import ensure_data_dir, load_settings
    from server.turns.ledger import FOR_EVER, Ledger

    settings = load_settings()
    ensure_data_dir(settings)
    services = OpenServices(settings)
    try:
        await services.database.open()
        since = int(time.time() * 1000) - days * _DAY_MS
        return await Ledger(services.database, 0).summed(by, since, FOR_EVER)
    finally:
        await services.aclose()
