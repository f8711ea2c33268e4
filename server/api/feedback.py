"""`POST /v1/feedback`: what somebody thinks of a recorded call."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from dialgraph.environment import in_thread
from dialgraph.records.files import Feedback, TooMuchFeedbackError
from server.access.auth import Requester
from server.api.about import State
from server.api.fields import ERRORS, Text
from server.errors import ApiError
from server.http.asgi_io import headers_of
from server.http.request_bodies import ClientRoute

router = APIRouter(prefix="/v1", tags=["records"], route_class=ClientRoute, responses=ERRORS)


async def requester(request: Request, state: State) -> Requester:
    """Return the client, if it may use the endpoints. Raises ApiError 401 and 403."""
    return await state.authenticator.authenticate(request.scope, headers_of(request.scope))


class Given(BaseModel):
    """What somebody thinks of a call."""

    call_id: Text = Field(min_length=1, max_length=1024, description="The id of the call, as the host sends it.")
    rating: Literal["good", "bad"]
    note: Text = Field(default="", max_length=2000, description="Why.")


@router.post("/feedback", status_code=204, summary="Say whether a recorded call went well.")
async def give_feedback(given: Given, state: State, who: Annotated[Requester, Depends(requester)]) -> None:
    """Store the feedback with the records. Only for calls that were recorded with the same key."""
    records = state.records
    call = records.redactor.text(given.call_id)
    if not await in_thread(records.files.has, who.principal, call):
        raise ApiError(404, "No recorded call has this id.", code="unknown_call", param="call_id")
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    feedback = Feedback(call, who.principal, given.rating, records.redactor.text(given.note), at)
    try:
        await in_thread(records.files.add_feedback, feedback)
    except TooMuchFeedbackError as error:
        raise ApiError(429, str(error), "rate_limit_error", "too_many_requests") from error
