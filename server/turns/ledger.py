"""The usage of turns: one row per turn, written together once a second, and the tokens charged to budgets.

For a turn that was interrupted the model reports no token count. Then the tokens are estimated, and the row says so. A
budget is charged before a turn with the tokens that the turn may use, and corrected after it. So several turns at the
same time cannot exceed the budget together.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import case, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from dialgraph.models.usage import prompt_estimate
from dialgraph.shallow import shallow
from dialgraph.storage.database import Database
from dialgraph.storage.errors import DatabaseError
from dialgraph.storage.statement_timeout import patient
from dialgraph.storage.tables.usage import BUDGET, USAGE
from dialgraph.users.accounts.accounts import Identity
from server.errors import ApiError

log = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
MOST_WAITING = 10_000
"""How many rows wait while the database does not answer. More rows are lost, and the log says so."""
USUAL_ANSWER_TOKENS = 1_000
"""The tokens charged for an answer if the request names no limit."""
MOST_ANSWER_TOKENS = 10_000_000
"""A larger limit in a request is reduced to this one."""
KEPT_SECONDS = 400 * 24 * 3600
FOR_EVER = 2**62
_PURGE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Entry:
    """The usage of one turn: one row."""

    id: str
    user_id: str | None
    principal: str
    key_id: str | None
    endpoint: str
    call_id: str
    turn_id: str
    model: str
    passes: int
    prompt_tokens: int
    completion_tokens: int
    estimated: bool
    first_word_ms: int
    total_ms: int
    outcome: str
    created_at: int
    """When the turn ended, in milliseconds since 1970."""
    answered_by: str = ""
    """The upstream's name of the model that was asked last."""
    cost_usd: float | None = None
    """By the prices that the operator pays; None: not known."""
    list_cost_usd: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Charge:
    """The tokens charged to a budget before a turn."""

    payer: str
    month: str
    tokens: int


class Ledger:
    """Writes usage to one database and charges budgets."""

    def __init__(self, database: Database, user_budget: int) -> None:
        self._database = database
        self._user_budget = user_budget
        self._waiting: list[Entry] = []
        self._charged: set[Charge] = set()
        """The charges whose turns have not ended."""
        self._settling: list[tuple[Charge, int]] = []
        self._writing = asyncio.Lock()
        """Held while the queue is written: two writes at once would write the same rows."""
        self._purged = time.monotonic()

    async def reserve(
        self, identity: Identity, messages: Iterable[Mapping[str, object]], request: Mapping[str, object]
    ) -> tuple[Charge, ...]:
        """Charge the budgets of a user's turn with the tokens it may use. Raises ApiError 429 if one is used up."""
        payers = {}
        if self._user_budget:
            payers[identity.principal] = self._user_budget
        if identity.key is not None and identity.key.token_budget is not None:
            payers[f"key:{identity.key.id}"] = identity.key.token_budget
        if not payers:
            return ()
        month = datetime.now(UTC).strftime("%Y-%m")
        bounds = [request.get(name) for name in ("max_completion_tokens", "max_tokens")]
        known = [bound for bound in bounds if isinstance(bound, int) and bound > 0]
        answer = min(max(known, default=USUAL_ANSWER_TOKENS), MOST_ANSWER_TOKENS)
        tokens = prompt_estimate(messages) + answer
        charges: list[Charge] = []
        for payer, budget in payers.items():
            charge = Charge(payer, month, tokens)
            if not await self._charge(charge, budget):
                self.release(charges)
                message = f"The budget of {budget} tokens per month has too few left. It starts again next month."
                raise ApiError(429, message, "rate_limit_error", "budget_exceeded", headers=_next_month())
            charges.append(charge)
            self._charged.add(charge)
        return tuple(charges)

    def add(self, entry: Entry, charges: Iterable[Charge] = ()) -> None:
        """Queue the row for the next write, and correct the budgets."""
        if len(self._waiting) >= MOST_WAITING:
            log.error("a row of usage was lost: the database did not answer for too long")
        else:
            self._waiting.append(entry)
        for charge in charges:
            self._charged.discard(charge)
            self._settling.append((charge, entry.prompt_tokens + entry.completion_tokens))

    def release(self, charges: Iterable[Charge]) -> None:
        """Give back the charges of a turn that did not run, and so has no row."""
        for charge in self._charged & set(charges):
            self._charged.discard(charge)
            self._settling.append((charge, 0))

    async def write(self) -> None:
        """Write the queued rows. Delete old rows once an hour."""
        try:
            async with self._writing:
                await self._write()
            if time.monotonic() - self._purged > _PURGE_SECONDS:
                self._purged = time.monotonic()
                await self._purge()
        except DatabaseError:
            log.warning("usage could not be written", extra={"rows": len(self._waiting)})

    async def _write(self) -> None:
        entries, settling = self._waiting[:], self._settling[:]
        if not entries and not settling:
            return
        async with self._database.transaction() as connection:
            if entries:
                await connection.execute(insert(USAGE), [shallow(entry) for entry in entries])
            for charge, used in settling:
                changed = update(BUDGET).where(*_is(charge)).values(tokens=BUDGET.c.tokens - charge.tokens + used)
                await connection.execute(changed)
        del self._waiting[: len(entries)], self._settling[: len(settling)]

    async def of_user(
        self, user_id: str, since: int, until: int, limit: int, after: tuple[int, str] | None = None
    ) -> Sequence[Any]:
        """Return the user's rows of this time, oldest first. `after`: the time and id of the last row already read."""
        where = [USAGE.c.user_id == user_id, USAGE.c.created_at >= since, USAGE.c.created_at < until]
        if after is not None:
            later = (USAGE.c.created_at > after[0]) | ((USAGE.c.created_at == after[0]) & (USAGE.c.id > after[1]))
            where.append(later)
        wanted = select(USAGE).where(*where).order_by(USAGE.c.created_at, USAGE.c.id).limit(limit)
        async with self._database.reading() as connection:
            return (await connection.execute(wanted)).all()

    async def summed(self, by: Sequence[str], since: int, until: int) -> Sequence[Any]:
        """Return turns, tokens and costs of this time in groups, the most expensive first. `by`: columns of the table.

        `without_price` counts the turns whose cost is not known.
        """
        columns = [USAGE.c[name] for name in by]
        unknown = func.sum(case((USAGE.c.cost_usd.is_(None), 1), else_=0))
        sums = [
            func.count().label("turns"),
            func.sum(USAGE.c.prompt_tokens).label("prompt_tokens"),
            func.sum(USAGE.c.completion_tokens).label("completion_tokens"),
            func.sum(USAGE.c.cost_usd).label("cost_usd"),
            func.sum(USAGE.c.list_cost_usd).label("list_cost_usd"),
            unknown.label("without_price"),
        ]
        wanted = select(*columns, *sums).where(USAGE.c.created_at >= since, USAGE.c.created_at < until)
        wanted = wanted.group_by(*columns).order_by(func.sum(USAGE.c.cost_usd).desc(), func.count().desc(), *columns)
        async with self._database.reading() as connection:
            return (await connection.execute(wanted)).all()

    async def forget(self, user_id: str) -> None:
        """Delete the user's usage and budgets."""
        async with self._writing:
            self._waiting = [entry for entry in self._waiting if entry.user_id != user_id]
            async with self._database.transaction() as connection:
                await connection.execute(delete(USAGE).where(USAGE.c.user_id == user_id))
                await connection.execute(delete(BUDGET).where(BUDGET.c.payer == f"user:{user_id}"))

    async def _charge(self, charge: Charge, budget: int) -> bool:
        room = BUDGET.c.tokens + charge.tokens <= budget
        changed = update(BUDGET).where(*_is(charge), room).values(tokens=BUDGET.c.tokens + charge.tokens)
        async with self._database.transaction() as connection:
            if (await connection.execute(changed)).rowcount:
                return True
            known = await connection.scalar(select(BUDGET.c.tokens).where(*_is(charge)))
        if known is not None or charge.tokens > budget:
            return False
        try:
            async with self._database.transaction() as connection:
                await connection.execute(insert(BUDGET).values(shallow(charge)))
        except IntegrityError:  # another turn created this month's row first
            return await self._charge(charge, budget)
        return True

    async def _purge(self) -> None:
        before = time.time_ns() // 1_000_000 - KEPT_SECONDS * 1000
        with patient():
            async with self._database.transaction() as connection:
                await connection.execute(delete(USAGE).where(USAGE.c.created_at < before))


def _is(charge: Charge) -> tuple[Any, ...]:
    return BUDGET.c.payer == charge.payer, BUDGET.c.month == charge.month


def _next_month() -> dict[str, str]:
    now = datetime.now(UTC)
    following = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    return {"Retry-After": str(int((following - now).total_seconds()) + 1)}
