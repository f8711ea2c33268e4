"""`/api/users`: register and log in."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from dialgraph.users.accounts.errors import NameTakenError
from dialgraph.users.accounts.users import DAY
from server.api.about import State
from server.api.admit import admit_login, admit_registration
from server.errors import ApiError
from server.http.request_bodies import LET_IN, JsonRoute
from server.protocols.backend_api.router import REFUSALS, InLanguage, route
from server.protocols.backend_api.texts import text

router = APIRouter(prefix="/api/users", tags=["llm-backend-api: users"], route_class=JsonRoute, responses=REFUSALS)


class Credentials(BaseModel):
    """A user's name and password."""

    username: str = Field(min_length=1, max_length=256, examples=["john_doe"])
    password: str = Field(min_length=1, max_length=1024, examples=["SecureP@ssw0rd!"])


@route(router, "POST", "/register", dependencies=LET_IN, summary="Create an account.", status_code=201)
async def register(given: Credentials, request: Request, state: State, language: InLanguage) -> JSONResponse:
    """Create an account. A name that is already taken is refused with 400, as `llm-backend-api` documents it."""
    await admit_registration(request, state)
    try:
        await state.accounts.users.register(given.username, given.password)
    except NameTakenError as error:
        raise ApiError(400, str(error), code="name_taken") from error
    return JSONResponse({"message": text("registered", language)}, 201)


@route(router, "POST", "/login", dependencies=LET_IN, summary="Log in.")
async def login(given: Credentials, request: Request, state: State) -> dict[str, str]:
    """Return an access token that is valid for one day."""
    await admit_login(request, state, given.username)
    begun = await state.accounts.users.login(given.username, given.password, access_seconds=DAY)
    return {"token": begun.access}
