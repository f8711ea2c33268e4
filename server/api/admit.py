"""Admission: rate limits of registration and login, and the limits and budgets of a user's turns."""

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
    """Count a login. Raises ApiError 429. The name is counted even if no user has it."""
    place, who = _place(request, state), hash_of(key_of(name))
    if place:
        await state.limiter.hit("login_address", place)
        # Somebody who guesses passwords locks out their own address, not the user at another address.
        await state.limiter.hit("login", who, place)
    await state.limiter.hit("login_name", who)


@asynccontextmanager
async def admitted(
    state: ServerState,
    identity: Identity | None,
    messages: Sequence[Mapping[str, object]],
    request: Mapping[str, object],
) -> AsyncIterator[Admission]:
    """Count a running turn of the user and charge their budgets for it. Raises ApiError 429."""
    if identity is None:
        yield Admission()
        return
    most = state.settings.user_streams
    with state.runs.place(identity.principal, most) as free:
        if not free:
            message = f"{most} of your turns are already running. Wait until one ends."
            raise ApiError(429, message, "rate_limit_error", "too_many_requests", headers={"Retry-After": "1"})
        await state.limiter.hit("turn", identity.user.id)
        admission = Admission(identity, await state.ledger.reserve(identity, messages, request))
        try:
            yield admission
        finally:
            state.ledger.release(admission.charges)


async def admit_password(state: ServerState, identity: Identity) -> None:
    """Count a password that a logged-in user sends, so that it cannot be guessed either. Raises ApiError 429."""
    await state.limiter.hit("login", identity.user.id)


async def admit_registration(request: Request, state: ServerState) -> None:
    """Count a registration. Raises ApiError 403 if registration is closed, and 429."""
    if not state.authenticator.registration_is_open:
        raise ApiError(
            403,
            "Registration is closed. Ask the operator of this server for an account.",
            "permission_error",
            "registration_closed",
        )
    if place := _place(request, state):
        await state.limiter.hit("register", place)


def _place(request: Request, state: ServerState) -> str:
    """Return the address that a request comes from; empty if it is not known."""
    return state.limiter.address_of(request.scope, headers_of(request.scope).get("x-forwarded-for"))
