"""What the routes of `/v1` share: the user of a request, texts that can be stored, errors and pages."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, BaseModel, Field

from dialgraph.storage.text import cleaned
from dialgraph.users.accounts.accounts import Identity
from server.api.about import State
from server.errors import ApiError
from server.http.asgi_io import headers_of

MOST_A_PAGE = 200
Item = TypeVar("Item")


def _keepable(text: str) -> str:
    if cleaned(text) != text:
        raise ValueError("must not contain NUL characters or unpaired surrogates")
    return text


Text = Annotated[str, AfterValidator(_keepable)]
"""A text without NUL and unpaired surrogates, which no database can store."""
UpstreamKey = Annotated[str, Field(max_length=1024, pattern=r"^[!-~]*$")]
"""A user's key for an upstream: only characters that an HTTP header can contain."""
Id = Annotated[str, Path(max_length=64, examples=["4b0c1b9e-8a52-4a4c-9d59-0f4a4e0f8d11"])]
Limit = Annotated[int, Query(ge=1, le=MOST_A_PAGE, description="The largest number of items to return.")]
Cursor = Annotated[
    str, Query(max_length=256, description="The `next_cursor` of the previous page. Empty: the first page.")
]


class Error(BaseModel):
    """What is wrong, and where."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """An error in OpenAI's envelope."""

    error: Error


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": meaning}
    for status, meaning in {
        400: "The request is not valid.",
        401: "Invalid or expired token or key.",
        403: "The token or key lacks the required scope.",
        404: "The user has nothing with this id.",
        409: "Conflicts with the current state.",
        413: "The body is too large.",
        415: "The body has the wrong content type.",
        422: "The content cannot be processed.",
        429: "Too many requests. Try again after `Retry-After` seconds.",
        503: "Temporarily unavailable. Try again after `Retry-After` seconds.",
        507: "The server has no storage space left.",
    }.items()
}
"""The errors in the OpenAPI description of every route."""


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    data: list[Item]
    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last page.")


def user(scope: str) -> Any:
    """Return a dependency that gives the user of a request. It raises ApiError 401, 403 and 429.

    `scope`: what the user's token or key must be allowed to do.
    """

    async def identify(request: Request, state: State) -> Identity:
        identity = await state.authenticator.identify(request.scope, headers_of(request.scope), scope)
        await state.limiter.hit("request", identity.user.id)
        return identity

    return Depends(identify)


def cursor_of(*place: object) -> str:
    """Return the place where a page ends, as text."""
    return base64.urlsafe_b64encode(".".join(map(str, place)).encode()).decode().rstrip("=")


def place_of(cursor: str) -> tuple[int, str] | None:
    """Return where the previous page ended: a time or position, and an id. Raises ApiError 400."""
    if not cursor:
        return None
    try:
        number, _, identity = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii").partition(".")
        place = int(number)
    except ValueError:
        raise ApiError(
            400, "Invalid cursor. Use the `next_cursor` of the previous page.", param="cursor", code="invalid_value"
        ) from None
    if not 0 <= place < 2**63 or "\0" in identity:
        raise ApiError(
            400, "Invalid cursor. Use the `next_cursor` of the previous page.", param="cursor", code="invalid_value"
        )
    return place, identity


def page_of(items: Sequence[Any], limit: int, cursors: Sequence[str]) -> dict[str, Any]:
    """Return a page of `limit` items. `items` has one more if there is a next page."""
    return {"data": list(items[:limit]), "next_cursor": cursors[limit - 1] if len(items) > limit else None}
