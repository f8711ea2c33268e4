"""`/v1/knowledge-bases`: a user's knowledge bases, their documents, and the jobs that read files."""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from dialgraph.passages import MAX_TOP_K
from dialgraph.users.accounts.accounts import Identity
from knowledge.ingest.jobs import Job
from knowledge.knowledge_base import BaseDocument, KnowledgeBase, shown
from server.api.about import State
from server.api.fields import ERRORS, Cursor, Id, Limit, Page, Text, cursor_of, page_of, place_of, user
from server.api.uploads import Upload, form_of, received
from server.errors import ApiError
from server.http.asgi_io import EVENT_HEADERS
from server.http.request_bodies import JsonRoute, UploadRoute
from server.protocols.sse import EVENT_STREAM, KEEP_ALIVE, frame
from server.state import ServerState

router = APIRouter(prefix="/v1/knowledge-bases", tags=["knowledge"], route_class=JsonRoute, responses=ERRORS)
uploads = APIRouter(prefix="/v1/knowledge-bases", tags=["knowledge"], route_class=UploadRoute, responses=ERRORS)
CurrentUser = Annotated[Identity, user("knowledge")]
BaseName = Annotated[Text, Field(min_length=1, max_length=256, examples=["Handbook"])]


class NewBase(BaseModel):
    """The settings of a new knowledge base."""

    name: BaseName
    embedder: Text = Field(
        default="main", max_length=128, description="The name of an embedder in the server's settings."
    )


class Rename(BaseModel):
    """The new name of a knowledge base."""

    name: BaseName


class KnowledgeBaseReply(BaseModel):
    """A knowledge base."""

    id: str
    name: str
    embedder: str
    created_at: int = Field(description="Milliseconds since 1970.")


class DocumentReply(BaseModel):
    """A document that is stored, being read, or refused."""

    id: str
    name: str
    state: str = Field(description="`live` if it is stored and can be searched, otherwise the state of its job.")
    passages: int
    characters: int
    added_at: int = Field(description="Seconds since 1970.")
    error: str


class JobReply(BaseModel):
    """The job that reads a file, and its progress."""

    id: str
    document_id: str
    name: str
    state: str = Field(description="`queued`, `running`, `done`, `failed` or `cancelled`.")
    done: int = Field(description="Passages that are stored so far.")
    total: int = Field(description="Passages in the whole file; 0 until the file was parsed.")
    error: str


class Question(BaseModel):
    """A question to a knowledge base."""

    query: Text = Field(min_length=1, max_length=4000, examples=["When is breakfast?"])
    top_k: int = Field(default=5, ge=1, le=MAX_TOP_K)
    min_score: float | None = Field(default=None, ge=0, le=1, description="Replaces the store's own threshold.")


class FoundPassage(BaseModel):
    """A passage that matches the question."""

    text: str
    document_id: str
    document: str
    heading: str
    page: int | None
    start: int
    end: int
    score: float


@router.post("", status_code=201, summary="Create a knowledge base.")
async def create(given: NewBase, state: State, who: CurrentUser) -> KnowledgeBaseReply:
    """Create an empty knowledge base."""
    if given.embedder not in (known := state.stores.embedders()):
        message = f"Unknown embedder {given.embedder[:64]!r}. Accepted: {', '.join(known)}."
        raise ApiError(400, message, param="embedder", code="unknown_embedder")
    return _reply(await state.bases.create(who.user.id, given.name, given.embedder))


@router.get("", summary="List the user's knowledge bases, newest first.")
async def listed(state: State, who: CurrentUser, limit: Limit = 50, cursor: Cursor = "") -> Page[KnowledgeBaseReply]:
    """Return one page. Knowledge bases that are created while you read the pages do not move the others."""
    found = await state.bases.page(who.user.id, limit + 1, place_of(cursor))
    cursors = [cursor_of(one.created_at, one.id) for one in found]
    return Page[KnowledgeBaseReply](**page_of([_reply(one) for one in found], limit, cursors))


@router.get("/{base_id}", summary="Get a knowledge base.")
async def get(base_id: Id, state: State, who: CurrentUser) -> KnowledgeBaseReply:
    """Return one knowledge base, without its documents."""
    return _reply(await state.bases.get(who.user.id, base_id))


@router.patch("/{base_id}", summary="Rename a knowledge base.")
async def rename(base_id: Id, given: Rename, state: State, who: CurrentUser) -> KnowledgeBaseReply:
    """Rename a knowledge base. Its documents do not change."""
    return _reply(await state.bases.rename(who.user.id, base_id, given.name))


@router.delete("/{base_id}", status_code=204, summary="Delete a knowledge base.", response_class=Response)
async def delete(base_id: Id, state: State, who: CurrentUser) -> None:
    """Delete a knowledge base with all its documents, including files that are still being read."""
    await state.knowledge.delete_base(who.user.id, base_id)


@router.post("/{base_id}/search", summary="Search a knowledge base.")
async def search(base_id: Id, given: Question, state: State, who: CurrentUser) -> list[FoundPassage]:
    """Return the passages that match the question, best first. The list is empty if none is relevant."""
    store = await state.knowledge.store(who.user.id, base_id)
    passages = await store.search(given.query, given.top_k, None, given.min_score)
    found = []
    for one in passages:
        number, name = shown(one.document)
        found.append(
            FoundPassage(
                text=one.text, document_id=number, document=name, heading=one.heading, page=one.page, start=one.start,
                end=one.end, score=round(one.score, 4),
            )
        )  # fmt: skip
    return found


@uploads.post(
    "/{base_id}/documents",
    status_code=202,
    summary="Upload a file.",
    openapi_extra=form_of({"file": {"type": "string", "format": "binary"}}),
)
async def send(base_id: Id, request: Request, state: State, who: CurrentUser) -> JobReply:
    """Upload a file and return the job that reads it. If the file cannot be read, the job fails with the reason."""
    await state.bases.get(who.user.id, base_id)
    async with received(request, state, who) as form:
        file = Upload.of(form).file
        if file is None:
            raise ApiError(400, "`file` is missing.", param="file", code="missing_file")
        source, name = await file.read(), file.filename or ""
    return _job_reply(await state.knowledge.take_in(who.user.id, base_id, name, source))


@router.get("/{base_id}/documents", summary="List the documents of a knowledge base, oldest first.")
async def documents(
    base_id: Id, state: State, who: CurrentUser, limit: Limit = 50, cursor: Cursor = ""
) -> Page[DocumentReply]:
    """Return the documents that are stored, those that are being read, and those that were refused, with the reason."""
    place = place_of(cursor)
    found = sorted(await state.knowledge.documents(who.user.id, base_id), key=lambda one: (one.added_at, one.id))
    behind = [one for one in found if place is None or (one.added_at, one.id) > place][: limit + 1]
    cursors = [cursor_of(one.added_at, one.id) for one in behind]
    return Page[DocumentReply](**page_of([_document_reply(one) for one in behind], limit, cursors))


@router.get("/{base_id}/documents/{document_id}", summary="Get a document.")
async def document(base_id: Id, document_id: Id, state: State, who: CurrentUser) -> DocumentReply:
    """Return one document: stored, being read, or refused."""
    for one in await state.knowledge.documents(who.user.id, base_id):
        if one.id == document_id:
            return _document_reply(one)
    raise ApiError(404, "Unknown document.", code="unknown_document")


@router.delete(
    "/{base_id}/documents/{document_id}", status_code=204, summary="Delete a document.", response_class=Response
)
async def delete_document(base_id: Id, document_id: Id, state: State, who: CurrentUser) -> None:
    """Delete a document. Searches do not find its passages any more."""
    await state.knowledge.delete_document(who.user.id, base_id, document_id)


@router.get("/{base_id}/jobs/{job_id}", summary="Get a job.")
async def job(base_id: Id, job_id: Id, state: State, who: CurrentUser) -> JobReply:
    """Return a job with its progress, for clients that poll."""
    return _job_reply(await _job(state, who, base_id, job_id))


@router.get("/{base_id}/jobs/{job_id}/events", summary="Follow a job.", response_class=StreamingResponse)
async def follow(base_id: Id, job_id: Id, state: State, who: CurrentUser) -> StreamingResponse:
    """Send a server-sent event for every change of the job, until it ends."""
    begun = await _job(state, who, base_id, job_id)
    return StreamingResponse(_events(state, begun), media_type=EVENT_STREAM, headers=EVENT_HEADERS)


@router.post("/{base_id}/jobs/{job_id}/retry", status_code=202, summary="Retry a failed job.")
async def retry(base_id: Id, job_id: Id, state: State, who: CurrentUser) -> JobReply:
    """Read a file again. A file that failed is stored for one day."""
    found = await _job(state, who, base_id, job_id)
    if not await state.knowledge.retry_job(found):
        raise ApiError(409, "Only a failed job can be retried.", code="job_not_failed")
    return _job_reply(await _job(state, who, base_id, job_id))


@router.delete("/{base_id}/jobs/{job_id}", status_code=204, summary="Cancel a job.", response_class=Response)
async def cancel(base_id: Id, job_id: Id, state: State, who: CurrentUser) -> None:
    """Cancel a job and delete the passages that it has stored."""
    await state.knowledge.cancel_job(await _job(state, who, base_id, job_id))


async def _job(state: ServerState, who: Identity, base: str, job_id: str) -> Job:
    if (found := await state.knowledge.job(who.user.id, base, job_id)) is None:
        raise ApiError(404, "Unknown job.", code="unknown_job")
    return found


async def _events(state: ServerState, begun: Job) -> AsyncGenerator[bytes, None]:
    async for now in state.knowledge.progress(begun):
        yield KEEP_ALIVE if now is None else frame(_job_reply(now).model_dump())


def _reply(base: KnowledgeBase) -> KnowledgeBaseReply:
    return KnowledgeBaseReply(id=base.id, name=base.name, embedder=base.embedder, created_at=base.created_at)


def _document_reply(one: BaseDocument) -> DocumentReply:
    return DocumentReply(
        id=one.id, name=one.name, state=one.state, passages=one.passages, characters=one.characters,
        added_at=one.added_at, error=one.error,
    )  # fmt: skip


def _job_reply(job: Job) -> JobReply:
    number, name = shown(job.document)
    return JobReply(
        id=job.id, document_id=number, name=name, state=job.state, done=job.done, total=job.total, error=job.error
    )
