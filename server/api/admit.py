"""Who may try to come in, and how often: registration and login, before anything is looked up."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from fastapi import Request

from dialgraph.users.accounts.accounts import Identity
from dialgraph.users.accounts.key_hash import hash_of
from dialgraph.users.accounts.users import key_of
from server.errors import ApiError
from server.http.asgi_io import headers_of
from server.state import ServerState
from server.turns.admission import Admission


async def admit_login(request: Request, state: ServerState, name: str) -> None:
    """Raises ApiError 429. The name counts whether or not it is somebody's."""
    place, who = _place(request, state), hash_of(key_of(name))
    if place:
        await state.limiter.hit("login_address", place)
        # A stranger who tries ten passwords locks himself out, and not the user elsewhere.
        await state.limiter.hit("login", who, place)
    await state.limiter.hit("login_name", who)


@asynccontextmanager
async def admitted(
    state: ServerState,
    identity: Identity | None,
    messages: Sequence[Mapping[str, object]],
    request: Mapping[str, object],
) -> AsyncIterator[Admission]:
    """A turn takes its place, and a user's budgets are charged for it. Raises ApiError 429."""
    if identity is None:
        yield Admission()
        return
    most = state.settings.user_streams
    with state.runs.place(identity.principal, most) as free:
        if not free:
            message = f"{most} turns of yours are running. Wait for one to end."
            raise ApiError(429, message, "rate_limit_error", "too_many_requests", headers={"Retry-After": "1"})
        await state.limiter.hit("turn", identity.user.id)
        admission = Admission(identity, await state.ledger.reserve(identity, messages, request))
        try:
            yield admission
        finally:
            state.ledger.release(admission.charges)


async def admit_password(state: ServerState, identity: Identity) -> None:
    """Somebody who is logged in shows his password: no more often than one who is not. Raises ApiError 429."""
    await state.limiter.hit("login", identity.user.id)


async def admit_registration(request: Request, state: ServerState) -> None:
    """Raises ApiError 403 and 429."""
    if not state.authenticator.registration_is_open:
        raise ApiError(403, "Accounts are made by the operator here.", "permission_error", "registration_closed")
    if place := _place(request, state):
        await state.limiter.hit("register", place)


def _place(request: Request, state: ServerState) -> str:
    """Where a request comes from; empty where that is not known."""
    return state.limiter.address_of(request.scope, headers_of(request.scope).get("x-forwarded-for"))
