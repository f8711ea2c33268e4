"""Receives uploaded files: only a few at the same time, up to a size limit, and not completely in memory."""

import errno
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from dialgraph.users.accounts.accounts import Identity
from knowledge.ingest.jobs import Job
from server.errors import ApiError
from server.http.request_bodies import FORM_BYTES
from server.state import ServerState

MOST_AT_ONCE = 8
"""Files that are received at the same time; further ones are refused with 429."""
MOST_OF_ONE = 2
"""Files that one user can send at the same time, so that a slow connection does not block other users."""
_RETRY = {"Retry-After": "2"}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Upload:
    """The fields of an upload form."""

    base: str
    file: UploadFile | None

    @classmethod
    def of(cls, form: FormData, base: str = "") -> "Upload":
        """Return the fields of the form. A text in place of the file counts as no file."""
        named, file = form.get(base), form.get("file")
        return cls(named if isinstance(named, str) else "", file if isinstance(file, UploadFile) else None)


def form_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI description of a form that its route reads itself. All fields are required."""
    schema = {"type": "object", "required": list(fields), "properties": dict(fields)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@asynccontextmanager
async def received(request: Request, state: ServerState, who: Identity) -> AsyncIterator[FormData]:
    """Yield the request's form. Raises ApiError 400, 413, 415, 429 and 507."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(415, "The Content-Type must be `multipart/form-data`.", code="unsupported_media_type")
    await state.limiter.hit("upload", who.user.id)
    if state.uploading.total() >= MOST_AT_ONCE or state.uploading[who.user.id] >= MOST_OF_ONE:
        message = "Too many uploads are running. Try again in a moment."
        raise ApiError(429, message, "rate_limit_error", "too_many_requests", headers=_RETRY)
    state.uploading[who.user.id] += 1
    try:
        try:
            form = await request.form(max_files=1, max_fields=16, max_part_size=FORM_BYTES)
        except (UnicodeError, LookupError) as error:  # an unknown charset
            raise ApiError(400, "The form is not valid `multipart/form-data`.", code="invalid_value") from error
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise ApiError(
                507, "The server has no storage space left for files.", "server_error", "storage_full"
            ) from error
        try:
            yield form
        finally:
            await form.close()
    finally:
        state.uploading -= Counter([who.user.id])


def document_refused(job: Job) -> ApiError:
    """Return the error for a file that was not stored: 422 if the file cannot be read, otherwise 503."""
    if job.fault == "document":
        return ApiError(422, job.error, code="document_refused")
    return ApiError(503, "The file could not be stored. Please try again.", "server_error", "store_unavailable")
