"""`/v1/knowledge-bases`: what a user's graphs look things up in, and the files on their way into it."""

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
    """What a knowledge base begins with."""

    name: BaseName
    embedder: Text = Field(default="main", max_length=128, description="Of the settings.")


class Rename(BaseModel):
    """Another name."""

    name: BaseName


class KnowledgeBaseReply(BaseModel):
    """A knowledge base."""

    id: str
    name: str
    embedder: str
    created_at: int = Field(description="Milliseconds since 1970.")


class DocumentReply(BaseModel):
    """A document: there, on its way, or refused."""

    id: str
    name: str
    state: str = Field(description="`live`, or the state of its job.")
    passages: int
    characters: int
    added_at: int = Field(description="Seconds since 1970.")
    error: str


class JobReply(BaseModel):
    """How far a file is on its way."""

    id: str
    document_id: str
    name: str
    state: str = Field(description="`queued`, `running`, `done`, `failed` or `cancelled`.")
    done: int = Field(description="Passages that are written.")
    total: int = Field(description="Passages that there will be; 0 until the file has been read.")
    error: str


class Question(BaseModel):
    """What is looked for."""

    query: Text = Field(min_length=1, max_length=4000, examples=["When is breakfast?"])
    top_k: int = Field(default=5, ge=1, le=MAX_TOP_K)
    min_score: float | None = Field(default=None, ge=0, le=1, description="In the place of the store's own threshold.")


class FoundPassage(BaseModel):
    """A passage."""

    text: str
    document_id: str
    document: str
    heading: str
    page: int | None
    start: int
    end: int
    score: float


@router.post("", status_code=201, summary="Make a knowledge base.")
async def create(given: NewBase, state: State, who: CurrentUser) -> KnowledgeBaseReply:
    """Empty."""
    if given.embedder not in (known := state.stores.embedders()):
        message = f"No embedder {given.embedder[:64]!r}. Accepted: {', '.join(known)}."
        raise ApiError(400, message, param="embedder", code="unknown_embedder")
    return _reply(await state.bases.create(who.user.id, given.name, given.embedder))


@router.get("", summary="The user's knowledge bases, newest first.")
async def listed(state: State, who: CurrentUser, limit: Limit = 50, cursor: Cursor = "") -> Page[KnowledgeBaseReply]:
    """Each is on one page, whatever is written meanwhile."""
    found = await state.bases.page(who.user.id, limit + 1, place_of(cursor))
    cursors = [cursor_of(one.created_at, one.id) for one in found]
    return Page[KnowledgeBaseReply](**page_of([_reply(one) for one in found], limit, cursors))


@router.get("/{base_id}", summary="One knowledge base.")
async def get(base_id: Id, state: State, who: CurrentUser) -> KnowledgeBaseReply:
    """Without its documents."""
    return _reply(await state.bases.get(who.user.id, base_id))


@router.patch("/{base_id}", summary="Rename a knowledge base.")
async def rename(base_id: Id, given: Rename, state: State, who: CurrentUser) -> KnowledgeBaseReply:
    """Its documents stay."""
    return _reply(await state.bases.rename(who.user.id, base_id, given.name))


@router.delete("/{base_id}", status_code=204, summary="Delete a knowledge base.", response_class=Response)
async def delete(base_id: Id, state: State, who: CurrentUser) -> None:
    """With all of its documents, and the files on their way."""
    await state.knowledge.delete_base(who.user.id, base_id)


@router.post("/{base_id}/search", summary="What a knowledge base says to a question.")
async def search(base_id: Id, given: Question, state: State, who: CurrentUser) -> list[FoundPassage]:
    """Nothing rather than what has nothing to do with it."""
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
    summary="Send a file.",
    openapi_extra=form_of({"file": {"type": "string", "format": "binary"}}),
)
async def send(base_id: Id, request: Request, state: State, who: CurrentUser) -> JobReply:
    """It is taken in by a job, whose progress can be asked for or followed. What cannot be read is refused there."""
    await state.bases.get(who.user.id, base_id)
    async with received(request, state, who) as form:
        file = Upload.of(form).file
        if file is None:
            raise ApiError(400, "`file` is missing.", param="file", code="missing_file")
        source, name = await file.read(), file.filename or ""
    return _job_reply(await state.knowledge.take_in(who.user.id, base_id, name, source))


@router.get("/{base_id}/documents", summary="The documents of a knowledge base, by name.")
async def documents(
    base_id: Id, state: State, who: CurrentUser, limit: Limit = 50, cursor: Cursor = ""
) -> Page[DocumentReply]:
    """Those that can be found in, those on their way, and those that were refused with the reason."""
    place = place_of(cursor)
    found = sorted(await state.knowledge.documents(who.user.id, base_id), key=lambda one: (one.added_at, one.id))
    behind = [one for one in found if place is None or (one.added_at, one.id) > place][: limit + 1]
    cursors = [cursor_of(one.added_at, one.id) for one in behind]
    return Page[DocumentReply](**page_of([_document_reply(one) for one in behind], limit, cursors))


@router.get("/{base_id}/documents/{document_id}", summary="One document.")
async def document(base_id: Id, document_id: Id, state: State, who: CurrentUser) -> DocumentReply:
    """There, on its way, or refused."""
    for one in await state.knowledge.documents(who.user.id, base_id):
        if one.id == document_id:
            return _document_reply(one)
    raise ApiError(404, "There is no such document.", code="unknown_document")


@router.delete(
    "/{base_id}/documents/{document_id}", status_code=204, summary="Delete a document.", response_class=Response
)
async def delete_document(base_id: Id, document_id: Id, state: State, who: CurrentUser) -> None:
    """What was found in it is found no more."""
    await state.knowledge.delete_document(who.user.id, base_id, document_id)


@router.get("/{base_id}/jobs/{job_id}", summary="How far a file is.")
async def job(base_id: Id, job_id: Id, state: State, who: CurrentUser) -> JobReply:
    """For those who ask again and again."""
    return _job_reply(await _job(state, who, base_id, job_id))


@router.get("/{base_id}/jobs/{job_id}/events", summary="Follow a file.", response_class=StreamingResponse)
async def follow(base_id: Id, job_id: Id, state: State, who: CurrentUser) -> StreamingResponse:
    """A server-sent event whenever it is further, until it is over."""
    begun = await _job(state, who, base_id, job_id)
    return StreamingResponse(_events(state, begun), media_type=EVENT_STREAM, headers=EVENT_HEADERS)


@router.post("/{base_id}/jobs/{job_id}/retry", status_code=202, summary="Read a file again that failed.")
async def retry(base_id: Id, job_id: Id, state: State, who: CurrentUser) -> JobReply:
    """A file that failed is kept for a day."""
    found = await _job(state, who, base_id, job_id)
    if not await state.knowledge.retry_job(found):
        raise ApiError(409, "Only a job that failed can be tried again.", code="job_not_failed")
    return _job_reply(await _job(state, who, base_id, job_id))


@router.delete("/{base_id}/jobs/{job_id}", status_code=204, summary="Stop a file.", response_class=Response)
async def cancel(base_id: Id, job_id: Id, state: State, who: CurrentUser) -> None:
    """What was written of it is gone."""
    await state.knowledge.cancel_job(await _job(state, who, base_id, job_id))


async def _job(state: ServerState, who: Identity, base: str, job_id: str) -> Job:
    if (found := await state.knowledge.job(who.user.id, base, job_id)) is None:
        raise ApiError(404, "There is no such job.", code="unknown_job")
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
