"""What the routes of `/v1` have in common: who asks, texts that can be kept, and pages."""

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
        raise ValueError("holds what is no text")
    return text


Text = Annotated[str, AfterValidator(_keepable)]
"""Without NUL and halves of characters, which no database keeps."""
UpstreamKey = Annotated[str, Field(max_length=1024, pattern=r"^[!-~]*$")]
"""A user's key for an upstream: what an HTTP header can hold."""
Id = Annotated[str, Path(max_length=64, examples=["4b0c1b9e-8a52-4a4c-9d59-0f4a4e0f8d11"])]
Limit = Annotated[int, Query(ge=1, le=MOST_A_PAGE, description="How many at most.")]
Cursor = Annotated[str, Query(max_length=256, description="`next_cursor` of the page before.")]


class Error(BaseModel):
    """What was wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """OpenAI's envelope."""

    error: Error


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": meaning}
    for status, meaning in {
        400: "The request makes no sense.",
        401: "Nobody is logged in by this token or key.",
        403: "The key does not open this.",
        404: "There is nothing of this id that is the user's.",
        409: "What is there stands against it.",
        413: "The body is too large.",
        415: "The body has the wrong type.",
        422: "The content cannot be taken.",
        429: "Too much at once: see `Retry-After`.",
        503: "Not now: see `Retry-After`.",
        507: "There is no room left.",
    }.items()
}
"""For the description of every route."""


class Page(BaseModel, Generic[Item]):
    """Some of many."""

    data: list[Item]
    next_cursor: str | None = Field(description="For the next page; null at the end.")


def user(scope: str) -> Any:
    """The user who asks, if what he brought opens this scope."""

    async def identify(request: Request, state: State) -> Identity:
        identity = await state.authenticator.identify(request.scope, headers_of(request.scope), scope)
        await state.limiter.hit("request", identity.user.id)
        return identity

    return Depends(identify)


def cursor_of(*place: object) -> str:
    """Where a page ended, as text."""
    return base64.urlsafe_b64encode(".".join(map(str, place)).encode()).decode().rstrip("=")


def place_of(cursor: str) -> tuple[int, str] | None:
    """Where the page before ended: a time or position, and an id. Raises ApiError 400."""
    if not cursor:
        return None
    try:
        number, _, identity = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii").partition(".")
        place = int(number)
    except ValueError:
        raise ApiError(400, "The cursor is none of ours.", param="cursor", code="invalid_value") from None
    if not 0 <= place < 2**63 or "\0" in identity:
        raise ApiError(400, "The cursor is none of ours.", param="cursor", code="invalid_value")
    return place, identity


def page_of(items: Sequence[Any], limit: int, cursors: Sequence[str]) -> dict[str, Any]:
    """A page of `limit` items, of which one more was looked for."""
    return {"data": list(items[:limit]), "next_cursor": cursors[limit - 1] if len(items) > limit else None}
