"""`/v1/users`, `/v1/sessions`, `/v1/me` and `/v1/keys`: accounts, logins and API keys."""

from collections.abc import AsyncGenerator
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from dialgraph.users.accounts.accounts import Identity
from dialgraph.users.accounts.keys import UserKey
from dialgraph.users.accounts.users import Login, User
from server.api.about import State
from server.api.admit import admit_login, admit_password, admit_registration
from server.api.fields import ERRORS, Id, Text, user
from server.errors import ApiError
from server.http.request_bodies import LET_IN, JsonRoute

ACCESS_SECONDS = 15 * 60
"""Of a token that can be renewed."""

router = APIRouter(prefix="/v1", tags=["accounts"], route_class=JsonRoute, responses=ERRORS)
Owner = Annotated[Identity, user("account")]
Name = Annotated[Text, Field(min_length=1, max_length=256, examples=["ann"])]
Password = Annotated[Text, Field(min_length=1, max_length=1024, examples=["correct horse battery"])]


Scope = Literal["chat", "conversations", "knowledge", "usage"]


class Credentials(BaseModel):
    """Who, and the proof of it."""

    name: Name
    password: Password


class Account(BaseModel):
    """A user."""

    id: str
    name: str


class Session(BaseModel):
    """What a login gives."""

    user: Account
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 (the word of OAuth)
    expires_in: int = Field(description="Seconds that the access token lives.")
    refresh_token: str = Field(description="Gives a new pair, once.")


class Renewal(BaseModel):
    """How a session goes on."""

    refresh_token: Text = Field(min_length=1, max_length=256)


class NewPassword(BaseModel):
    """One password for another."""

    old: Password
    new: Password


class Farewell(BaseModel):
    """The proof that it is meant."""

    password: Password


class NewKey(BaseModel):
    """What a key is to open."""

    name: Text = Field(min_length=1, max_length=64, examples=["phone bot"])
    scopes: list[Scope] = Field(default=["chat", "conversations", "knowledge", "usage"], min_length=1)
    token_budget: int | None = Field(default=None, ge=1, le=2**53, description="Tokens a calendar month.")
    expires_at: int | None = Field(default=None, ge=0, le=2**53, description="Seconds since 1970.")


class Key(BaseModel):
    """A key, without the key."""

    id: str
    name: str
    ending: str
    scopes: list[str]
    token_budget: int | None
    created_at: int
    expires_at: int | None


class MadeKey(Key):
    """A new key: the only time that it is seen."""

    key: str


@router.post("/users", dependencies=LET_IN, status_code=201, summary="Make an account.")
async def register(given: Credentials, request: Request, state: State) -> Account:
    """With the access token of a server without keys; else where the settings say so."""
    await admit_registration(request, state)
    return _account(await state.accounts.users.register(given.name, given.password))


@router.post("/sessions", dependencies=LET_IN, status_code=201, summary="Log in.")
async def login(given: Credentials, request: Request, state: State) -> Session:
    """The access token lives for a quarter of an hour, the session for 30 days from its last renewal."""
    await admit_login(request, state, given.name)
    return _session(await state.accounts.users.login(given.name, given.password, access_seconds=ACCESS_SECONDS))


@router.post("/sessions/refresh", dependencies=LET_IN, summary="Renew the tokens of a session.")
async def refresh(given: Renewal, request: Request, state: State) -> Session:
    """A refresh token that comes twice ends its session: one of the two who have it has stolen it."""
    await admit_login(request, state, given.refresh_token)
    renewed = await state.accounts.users.refresh(given.refresh_token, access_seconds=ACCESS_SECONDS)
    if renewed is None:
        raise ApiError(401, "The refresh token is over.", "authentication_error", "invalid_token")
    return _session(renewed)


@router.delete("/sessions/current", status_code=204, summary="Log out.", response_class=Response)
async def logout(state: State, who: Owner) -> None:
    """The session's tokens open nothing any more, within a second in every process."""
    await state.accounts.users.logout(who.user.id, who.session_id)
    state.accounts.forget(who.user.id)


@router.delete("/sessions", status_code=204, summary="Log out everywhere.", response_class=Response)
async def logout_everywhere(state: State, who: Owner) -> None:
    """Every session of the user ends; keys stay."""
    await state.accounts.users.logout(who.user.id)
    state.accounts.forget(who.user.id)


@router.get("/me", summary="Who is logged in.")
async def me(state: State, who: Owner) -> Account:
    """The user of the token."""
    return _account(who.user)


@router.put("/me/password", status_code=204, summary="Change the password.", response_class=Response)
async def change_password(given: NewPassword, state: State, who: Owner) -> None:
    """Every session ends, this one too."""
    await admit_password(state, who)
    await state.accounts.users.change_password(who.user.id, given.old, given.new)
    state.accounts.forget(who.user.id)


@router.get("/me/export", summary="Everything that is kept of the user.", response_class=StreamingResponse)
async def export(state: State, who: Owner) -> StreamingResponse:
    """A JSON object a line: keys, conversations with all turns, knowledge bases with their documents; no secret."""

    async def lines() -> AsyncGenerator[bytes, None]:
        async for record in state.people.export(who.user):
            yield orjson.dumps(record) + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson", headers={"cache-control": "no-store"})


@router.delete("/me", status_code=204, summary="Delete the account.", response_class=Response)
async def erase(given: Farewell, state: State, who: Owner) -> None:
    """With everything that is kept of it."""
    await admit_password(state, who)
    if not await state.accounts.users.has_password(who.user.id, given.password):
        raise ApiError(403, "The password is wrong.", "permission_error", "wrong_password")
    await state.people.erase(who.user.id)


@router.get("/keys", summary="The user's API keys.")
async def keys(state: State, who: Owner) -> list[Key]:
    """Without the keys themselves."""
    return [_key(key) for key in await state.accounts.keys.of_user(who.user.id)]


@router.post("/keys", status_code=201, summary="Make an API key.")
async def make_key(given: NewKey, state: State, who: Owner) -> MadeKey:
    """It works on these routes as far as its scopes go, and with `chat` on every OpenAI endpoint."""
    made, key = await state.accounts.keys.create(
        who.user.id, given.name, given.scopes, token_budget=given.token_budget, expires_at=given.expires_at
    )
    return MadeKey(**_key(made).model_dump(), key=key)


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke an API key.", response_class=Response)
async def revoke(key_id: Id, state: State, who: Owner) -> None:
    """It opens nothing any more, within a second in every process."""
    if not await state.accounts.keys.revoke(who.user.id, key_id):
        raise ApiError(404, "There is no such key.", code="unknown_key")
    state.accounts.forget(who.user.id)


def _account(found: User) -> Account:
    return Account(id=found.id, name=found.name)


def _session(begun: Login) -> Session:
    return Session(
        user=_account(begun.user), access_token=begun.access, expires_in=begun.seconds, refresh_token=begun.refresh
    )


def _key(key: UserKey) -> Key:
    return Key(
        id=key.id, name=key.name, ending=key.ending, scopes=list(key.scopes), token_budget=key.token_budget,
        created_at=key.created_at, expires_at=key.expires_at,
    )  # fmt: skip
