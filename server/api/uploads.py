"""Files as they come in: so many at once, none larger than it may be, and never wholly in memory before it is known."""

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
"""Files that are being received; who comes then waits outside."""
MOST_OF_ONE = 2
"""Of one user: his slow line is not to hold up the others."""
_RETRY = {"Retry-After": "2"}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


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


def form_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """For the description of a route that reads its form itself: the fields, all needed."""
    schema = {"type": "object", "required": list(fields), "properties": dict(fields)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@asynccontextmanager
async def received(request: Request, state: ServerState, who: Identity) -> AsyncIterator[FormData]:
    """The request's form. Raises ApiError 415 and 429, and what the body's limit says."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(415, "The Content-Type must be `multipart/form-data`.", code="unsupported_media_type")
    await state.limiter.hit("upload", who.user.id)
    if state.uploading.total() >= MOST_AT_ONCE or state.uploading[who.user.id] >= MOST_OF_ONE:
        message = "Too many files are being received. Try again in a moment."
        raise ApiError(429, message, "rate_limit_error", "too_many_requests", headers=_RETRY)
    state.uploading[who.user.id] += 1
    try:
        try:
            form = await request.form(max_files=1, max_fields=16, max_part_size=FORM_BYTES)
        except (UnicodeError, LookupError) as error:  # a charset that is none
            raise ApiError(400, "The form cannot be read.", code="invalid_value") from error
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise ApiError(507, "The server has no room for files.", "server_error", "storage_full") from error
        try:
            yield form
        finally:
            await form.close()
    finally:
        state.uploading -= Counter([who.user.id])


def document_refused(job: Job) -> ApiError:
    """Why a file was not taken in: 422 where the fault is the file's."""
    if job.fault == "document":
        return ApiError(422, job.error, code="document_refused")
    return ApiError(503, "The file could not be taken in.", "server_error", "store_unavailable")
