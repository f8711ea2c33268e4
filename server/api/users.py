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
"""The lifetime of an access token of a session, which a refresh token can renew."""

router = APIRouter(prefix="/v1", tags=["accounts"], route_class=JsonRoute, responses=ERRORS)
Owner = Annotated[Identity, user("account")]
Name = Annotated[Text, Field(min_length=1, max_length=256, examples=["ann"])]
Password = Annotated[Text, Field(min_length=1, max_length=1024, examples=["correct horse battery"])]


Scope = Literal["chat", "conversations", "knowledge", "usage"]


class Credentials(BaseModel):
    """A user's name and password."""

    name: Name
    password: Password


class Account(BaseModel):
    """A user."""

    id: str
    name: str


class Session(BaseModel):
    """The tokens of a login."""

    user: Account
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 (the word of OAuth)
    expires_in: int = Field(description="The lifetime of the access token, in seconds.")
    refresh_token: str = Field(description="Can be exchanged once for a new pair of tokens.")


class Renewal(BaseModel):
    """The refresh token of a session."""

    refresh_token: Text = Field(min_length=1, max_length=256)


class NewPassword(BaseModel):
    """The old password and the new one."""

    old: Password
    new: Password


class Farewell(BaseModel):
    """The password, to confirm the deletion."""

    password: Password


class NewKey(BaseModel):
    """The name, scopes and limits of a new API key."""

    name: Text = Field(min_length=1, max_length=64, examples=["phone bot"])
    scopes: list[Scope] = Field(default=["chat", "conversations", "knowledge", "usage"], min_length=1)
    token_budget: int | None = Field(
        default=None, ge=1, le=2**53, description="Tokens that the key may use in a calendar month. Null: no limit."
    )
    expires_at: int | None = Field(
        default=None, ge=0, le=2**53, description="Seconds since 1970. Null: the key does not expire."
    )


class Key(BaseModel):
    """A key, without its secret."""

    id: str
    name: str
    ending: str
    scopes: list[str]
    token_budget: int | None
    created_at: int
    expires_at: int | None


class MadeKey(Key):
    """A new key with its secret, which is shown only once."""

    key: str


@router.post("/users", dependencies=LET_IN, status_code=201, summary="Create an account.")
async def register(given: Credentials, request: Request, state: State) -> Account:
    """Create an account. The setting `registration` says who may do this."""
    await admit_registration(request, state)
    return _account(await state.accounts.users.register(given.name, given.password))


@router.post("/sessions", dependencies=LET_IN, status_code=201, summary="Log in.")
async def login(given: Credentials, request: Request, state: State) -> Session:
    """Begin a session. The access token is valid for 15 minutes, the session for 30 days after its last renewal."""
    await admit_login(request, state, given.name)
    return _session(await state.accounts.users.login(given.name, given.password, access_seconds=ACCESS_SECONDS))


@router.post("/sessions/refresh", dependencies=LET_IN, summary="Renew the tokens of a session.")
async def refresh(given: Renewal, request: Request, state: State) -> Session:
    """Return new tokens. A refresh token that is used twice ends its session, because it may have been stolen."""
    await admit_login(request, state, given.refresh_token)
    renewed = await state.accounts.users.refresh(given.refresh_token, access_seconds=ACCESS_SECONDS)
    if renewed is None:
        raise ApiError(401, "Invalid or expired refresh token. Log in again.", "authentication_error", "invalid_token")
    return _session(renewed)


@router.delete("/sessions/current", status_code=204, summary="Log out.", response_class=Response)
async def logout(state: State, who: Owner) -> None:
    """End this session. Every process refuses its tokens within a second."""
    await state.accounts.users.logout(who.user.id, who.session_id)
    state.accounts.forget(who.user.id)


@router.delete("/sessions", status_code=204, summary="Log out everywhere.", response_class=Response)
async def logout_everywhere(state: State, who: Owner) -> None:
    """End all sessions of the user. API keys stay valid."""
    await state.accounts.users.logout(who.user.id)
    state.accounts.forget(who.user.id)


@router.get("/me", summary="Get the user.")
async def me(state: State, who: Owner) -> Account:
    """Return the user of the token or key."""
    return _account(who.user)


@router.put("/me/password", status_code=204, summary="Change the password.", response_class=Response)
async def change_password(given: NewPassword, state: State, who: Owner) -> None:
    """Change the password. All sessions end, including this one."""
    await admit_password(state, who)
    await state.accounts.users.change_password(who.user.id, given.old, given.new)
    state.accounts.forget(who.user.id)


@router.get("/me/export", summary="Export everything that is stored about the user.", response_class=StreamingResponse)
async def export(state: State, who: Owner) -> StreamingResponse:
    """Return one JSON object per line: the account, keys, usage, conversations with all turns, and knowledge bases with
    their documents. Secrets are not included.
    """

    async def lines() -> AsyncGenerator[bytes, None]:
        async for record in state.people.export(who.user):
            yield orjson.dumps(record) + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson", headers={"cache-control": "no-store"})


@router.delete("/me", status_code=204, summary="Delete the account.", response_class=Response)
async def erase(given: Farewell, state: State, who: Owner) -> None:
    """Delete the account with everything that is stored about the user."""
    await admit_password(state, who)
    if not await state.accounts.users.has_password(who.user.id, given.password):
        raise ApiError(403, "Wrong password.", "permission_error", "wrong_password")
    await state.people.erase(who.user.id)


@router.get("/keys", summary="List the user's API keys.")
async def keys(state: State, who: Owner) -> list[Key]:
    """Return all keys, without their secrets."""
    return [_key(key) for key in await state.accounts.keys.of_user(who.user.id)]


@router.post("/keys", status_code=201, summary="Create an API key.")
async def make_key(given: NewKey, state: State, who: Owner) -> MadeKey:
    """Create a key. Its scopes decide which routes accept it; with `chat` it also works on every OpenAI endpoint."""
    made, key = await state.accounts.keys.create(
        who.user.id, given.name, given.scopes, token_budget=given.token_budget, expires_at=given.expires_at
    )
    return MadeKey(**_key(made).model_dump(), key=key)


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke an API key.", response_class=Response)
async def revoke(key_id: Id, state: State, who: Owner) -> None:
    """Revoke a key. Every process refuses it within a second."""
    if not await state.accounts.keys.revoke(who.user.id, key_id):
        raise ApiError(404, "Unknown key.", code="unknown_key")
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
