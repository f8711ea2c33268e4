"""`/api/rag`: users' knowledge bases, their documents, and searches in them."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.types import Scope

from dialgraph.passages import MAX_TOP_K
from dialgraph.turn.request import TurnRequest
from dialgraph.users.accounts.accounts import Identity
from knowledge.knowledge_base import OneKnowledgeBase, shown
from server.api.about import State
from server.api.fields import Text, user
from server.api.uploads import Upload, document_refused, form_of, received
from server.errors import ApiError
from server.http.request_bodies import JsonRoute, UploadRoute
from server.protocols.backend_api.chat import Chat, said_in, text_in
from server.protocols.backend_api.conversations import number_in
from server.protocols.backend_api.router import REFUSALS, InLanguage, route
from server.protocols.backend_api.texts import text

DOCUMENTED_EMBEDDERS = ("zhipu-embedding-3", "zhipu-embedding-2")
"""If the settings do not have one of these, the embedder `main` is used, and the reply says so."""
USUAL_TOP_K = 5

router = APIRouter(prefix="/api/rag", tags=["llm-backend-api: knowledge"], route_class=JsonRoute, responses=REFUSALS)
CurrentUser = Annotated[Identity, user("knowledge")]
BaseId = Annotated[str, Field(min_length=1, max_length=64, examples=["a1b2c3d4-5678-90ab-cdef-123456789abc"])]


class NewBase(BaseModel):
    """The settings of a new knowledge base."""

    kb_name: Text = Field(min_length=1, max_length=256, examples=["法律知识库"])
    embedding_model: Text = Field(default="", max_length=128, examples=["zhipu-embedding-3"])


class OfBase(BaseModel):
    """The id of a knowledge base."""

    kb_id: BaseId


class OfDocument(OfBase):
    """The ids of a knowledge base and of one of its documents."""

    doc_id: BaseId


class Wanted(OfBase):
    """A question to a knowledge base."""

    query: str = Field(min_length=1, max_length=100_000, examples=["什么是不可抗力条款？"])
    top_k: int = Field(default=USUAL_TOP_K, description="The largest number of results. 0 or less means 5.")


@route(router, "POST", "/kb/create", summary="Create a knowledge base.")
async def create(given: NewBase, state: State, who: CurrentUser, language: InLanguage) -> dict[str, Any]:
    """Create a knowledge base. If a documented embedding model is not configured, the reply names `main` instead."""
    known = state.stores.embedders()
    asked = given.embedding_model
    if asked and asked not in known and asked not in DOCUMENTED_EMBEDDERS:
        message = f"Unknown embedding model {asked[:64]!r}. Accepted: {', '.join([*known, *DOCUMENTED_EMBEDDERS])}."
        raise ApiError(400, message, param="embedding_model", code="unknown_embedder")
    embedder = asked if asked in known else "main"
    base = await state.bases.create(who.user.id, given.kb_name, embedder)
    said = "base_created_instead" if asked and embedder != asked else "base_created"
    return {"success": True, "kb_id": base.id, "message": text(said, language, model=embedder, asked=asked)}


@route(router, "GET", "/kb/list", summary="List the user's knowledge bases, newest first.")
async def listed(state: State, who: CurrentUser, language: InLanguage) -> dict[str, Any]:
    """Return all knowledge bases of the user."""
    kbs = [
        {"kb_id": base.id, "kb_name": base.name, "embedding_model": base.embedder}
        for base in await state.bases.page(who.user.id)
    ]
    return {"success": True, "kbs": kbs, "message": text("bases", language)}


@route(router, "POST", "/kb/delete", summary="Delete a knowledge base.")
async def delete(given: OfBase, state: State, who: CurrentUser, language: InLanguage) -> dict[str, Any]:
    """Delete a knowledge base with all its documents."""
    await state.knowledge.delete_base(who.user.id, given.kb_id)
    return {"success": True, "message": text("base_deleted", language)}


@route(router, "GET", "/doc/list", summary="List the documents of a knowledge base.")
async def documents(
    state: State, who: CurrentUser, language: InLanguage, kb_id: Annotated[str, Query(max_length=64)] = ""
) -> dict[str, Any]:
    """Return the documents that can be searched."""
    if not kb_id:
        raise ApiError(400, "`kb_id` is missing.", param="kb_id", code="missing_knowledge_base")
    docs = [
        {"doc_id": one.id, "kb_id": kb_id, "doc_name": one.name, "file_type": one.kind}
        for one in await state.knowledge.documents(who.user.id, kb_id)
        if one.state == "live"
    ]
    return {"success": True, "docs": docs, "message": text("documents", language)}


@route(router, "POST", "/doc/delete", summary="Delete a document.")
async def delete_document(given: OfDocument, state: State, who: CurrentUser, language: InLanguage) -> dict[str, Any]:
    """Delete a document. Searches do not find its passages any more."""
    await state.knowledge.delete_document(who.user.id, given.kb_id, given.doc_id)
    return {"success": True, "message": text("document_deleted", language)}


@route(router, "POST", "/retrieve", summary="Search a knowledge base.")
async def retrieve(given: Wanted, state: State, who: CurrentUser, language: InLanguage) -> dict[str, Any]:
    """Return the passages that match the question, best first. The list is empty if none is relevant."""
    store = await state.knowledge.store(who.user.id, given.kb_id)
    results = []
    for passage in await store.search(given.query, _top_k(given.top_k)):
        number, name = shown(passage.document)
        score = round(passage.score, 4)
        results.append({"content": passage.text, "score": score, "doc_id": number, "doc_name": name})
    return {"success": True, "results": results, "message": text("retrieved", language)}


@route(router, "GET", "/models", summary="List the embedding models.")
async def models(state: State, who: CurrentUser, language: InLanguage) -> dict[str, Any]:
    """Return the embedders of the settings and the documented names, which mean `main` if they are not configured."""
    names = list(dict.fromkeys([*DOCUMENTED_EMBEDDERS, *state.stores.embedders()]))
    return {"success": True, "models": names, "message": text("embedders", language)}


uploads = APIRouter(prefix="/api/rag", tags=["llm-backend-api: knowledge"], route_class=UploadRoute, responses=REFUSALS)


@route(
    uploads,
    "POST",
    "/doc/upload",
    summary="Add a document to a knowledge base.",
    openapi_extra=form_of({"kb_id": {"type": "string"}, "file": {"type": "string", "format": "binary"}}),
)
async def upload(request: Request, state: State, who: CurrentUser, language: InLanguage) -> dict[str, Any]:
    """Add a document. The reply comes when it can be searched. A file that cannot be read is refused with 422."""
    async with received(request, state, who) as form:
        given = Upload.of(form, "kb_id")
        if not given.base:
            raise ApiError(400, "`kb_id` is missing.", param="kb_id", code="missing_knowledge_base")
        if given.file is None:
            raise ApiError(400, "`file` is missing.", param="file", code="missing_file")
        source = await given.file.read()
        name = given.file.filename or ""
    job = await state.knowledge.take_in(who.user.id, given.base, name, source)
    job = await state.knowledge.finished(job)
    if job.state != "done":
        await state.knowledge.forget_job(job)
        raise document_refused(job)
    number, _ = shown(job.document)
    return {"success": True, "doc_id": number, "message": text("document_taken_in", language, count=job.done)}


class KnowledgeChat(Chat):
    """The ASGI application of `/api/rag/chat`."""

    scopes = ("chat", "knowledge")

    async def asked(
        self, identity: Identity, scope: Scope, headers: dict[str, str], body: dict[str, Any]
    ) -> TurnRequest:
        """Return the turn that the request asks for, with the knowledge base to search. Raises ApiError 400."""
        top_k = body.get("top_k", USUAL_TOP_K)
        if isinstance(top_k, bool) or not isinstance(top_k, int):
            raise ApiError(400, "`top_k` must be a whole number.", param="top_k", code="invalid_value")
        store = await self._state.knowledge.store(identity.user.id, text_in(body, "kb_id"))
        return replace(
            said_in(body, number_in(body.get("conversation_id")), headers),
            endpoint=self._state.settings.knowledge_graph,
            store=OneKnowledgeBase(store, _top_k(top_k)),
        )


def _top_k(given: int) -> int:
    """Return the number of results: as documented, 0 or less means the default. The maximum is `MAX_TOP_K`."""
    return min(given, MAX_TOP_K) if given > 0 else USUAL_TOP_K
