"""Files as they come in: so many at once, none larger than it may be, and never wholly in memory before it is known."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from accounts.accounts import Identity
from knowledge.jobs import Job
from server.errors import ApiError
from server.state import ServerState

FORM_BYTES = 64 * 1024
"""Of each field beside the file."""
MOST_AT_ONCE = 4
"""Files that are being received; who comes then waits outside."""
_RETRY = {"Retry-After": "2"}


@dataclass(frozen=True, slots=True)
class Upload:
    """What a form brings."""

    base: str
    file: UploadFile | None

    @classmethod
    def of(cls, form: FormData, base: str = "") -> "Upload":
        """The fields of the form; a text where a file should be is none."""
        named, file = form.get(base), form.get("file")
        return cls(named if isinstance(named, str) else "", file if isinstance(file, UploadFile) else None)


@asynccontextmanager
async def received(request: Request, state: ServerState, who: Identity) -> AsyncIterator[FormData]:
    """The request's form. Raises ApiError 415 and 429, and what the body's limit says."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(415, "The Content-Type must be `multipart/form-data`.", code="unsupported_media_type")
    await state.limiter.hit("upload", who.user.id)
    if state.uploading >= MOST_AT_ONCE:
        message = f"{MOST_AT_ONCE} files are being received. Try again in a moment."
        raise ApiError(429, message, "rate_limit_error", "too_many_requests", headers=_RETRY)
    state.uploading += 1
    try:
        async with request.form(max_files=1, max_fields=16, max_part_size=FORM_BYTES) as form:
            yield form
    finally:
        state.uploading -= 1


def document_refused(job: Job) -> ApiError:
    """Why a file was not taken in: 422 where the fault is the file's."""
    if job.fault == "document":
        return ApiError(422, job.error, code="document_refused")
    return ApiError(503, "The file could not be taken in.", "server_error", "store_unavailable")
