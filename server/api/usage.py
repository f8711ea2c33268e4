"""`/v1/usage`: the tokens and times of a user's turns, one row for each, as JSON and as CSV."""

import csv
import io
import time
from collections.abc import AsyncGenerator, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from dialgraph.users.accounts.accounts import Identity
from server.api.about import State
from server.api.fields import ERRORS, Cursor, Limit, Page, cursor_of, page_of, place_of, user
from server.http.request_bodies import JsonRoute
from server.turns.ledger import FOR_EVER

router = APIRouter(prefix="/v1", tags=["usage"], route_class=JsonRoute, responses=ERRORS)
CurrentUser = Annotated[Identity, user("usage")]
Since = Annotated[int, Query(ge=0, le=2**53, description="Milliseconds since 1970.")]
Until = Annotated[int, Query(ge=0, le=2**53, description="Milliseconds since 1970. 0: now.")]
_AT_ONCE = 500


class Used(BaseModel):
    """The usage of one turn, complete or cut off."""

    id: str
    key_id: str | None
    endpoint: str
    call_id: str
    turn_id: str
    model: str
    passes: int = Field(description="How many requests to a model the turn needed.")
    prompt_tokens: int
    completion_tokens: int
    estimated: bool = Field(
        description="Whether the tokens are an estimate, because the model sent no usage or the turn was cut off."
    )
    first_word_ms: int
    total_ms: int
    outcome: str
    created_at: int = Field(description="When the turn ended, in milliseconds since 1970.")
    answered_by: str | None = Field(description="The upstream's name of the model that was asked last.")
    cost_usd: float | None = Field(description="The cost in US dollars; null if it is not known.")


@router.get("/usage", summary="List the usage of the user's turns, oldest first.")
async def usage(
    state: State, who: CurrentUser, since: Since = 0, until: Until = 0, limit: Limit = 100, cursor: Cursor = ""
) -> Page[Used]:
    """Return one page. A turn appears about one second after its end."""
    rows = await state.ledger.of_user(who.user.id, since, until or FOR_EVER, limit + 1, place_of(cursor))
    cursors = [cursor_of(row.created_at, row.id) for row in rows]
    return Page[Used](**page_of([_used(row) for row in rows], limit, cursors))


@router.get("/usage.csv", summary="Get the usage as CSV.", response_class=StreamingResponse)
async def usage_csv(state: State, who: CurrentUser, since: Since = 0, until: Until = 0) -> StreamingResponse:
    """Return all rows of the time span as CSV, up to now."""
    end = until or time.time_ns() // 1_000_000 + 1

    async def lines() -> AsyncGenerator[str, None]:
        yield _line(Used.model_fields)
        place = None
        while rows := await state.ledger.of_user(who.user.id, since, end, _AT_ONCE, place):
            for row in rows:
                place = (row.created_at, row.id)
                yield _line(_used(row).model_dump().values())

    headers = {"content-disposition": 'attachment; filename="usage.csv"', "cache-control": "no-store"}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)


def _used(row: Any) -> Used:
    return Used(**{name: getattr(row, name) for name in Used.model_fields})


def _line(values: Iterable[object]) -> str:
    """Return one CSV line. A text that a spreadsheet could run as a formula begins with a quote mark."""
    written = io.StringIO()
    safe = [
        f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value for value in values
    ]
    csv.writer(written).writerow(safe)
    return written.getvalue()
