"""`/v1/conversations`: a user's conversations and their messages."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from dialgraph.models.relay.user_upstreams import AddressError
from dialgraph.users.accounts.accounts import Identity
from dialgraph.users.conversations.values import Conversation, KeptTurn
from server.api.about import State
from server.api.conversation_turn import named_upstream
from server.api.fields import ERRORS, Cursor, Id, Limit, Page, Text, UpstreamKey, cursor_of, page_of, place_of, user
from server.api.titles import title_for
from server.errors import ApiError
from server.http.request_bodies import JsonRoute
from server.state import ServerState

router = APIRouter(prefix="/v1/conversations", tags=["conversations"], route_class=JsonRoute, responses=ERRORS)
CurrentUser = Annotated[Identity, user("conversations")]
Talker = Annotated[Identity, user("chat")]
Title = Annotated[Text, Field(max_length=256, examples=["A trip to Suzhou"])]
Graph = Annotated[
    Text, Field(max_length=64, examples=["chat"], description="The endpoint that answers. Empty: the server's default.")
]
Model = Annotated[
    Text, Field(max_length=256, examples=["gpt-4o"], description="The model's name. Empty: the graph's default.")
]
Instructions = Annotated[Text, Field(max_length=20_000, description="The system message of every turn.")]


class NewConversation(BaseModel):
    """The settings of a new conversation."""

    title: Title = ""
    graph: Graph = ""
    model: Model = ""
    instructions: Instructions = ""
    api_key: UpstreamKey = Field(
        default="", description="The user's own API key for the model's provider. Stored encrypted."
    )
    base_url: Text = Field(
        default="", max_length=2048,
        description="The base URL of the user's own upstream. It never receives the server's keys.",
        examples=["https://api.example.com/v1"],
    )  # fmt: skip


class Change(BaseModel):
    """The fields to change. Fields that are left out do not change."""

    title: Title | None = None
    graph: Graph | None = None
    model: Model | None = None
    instructions: Instructions | None = None


class ConversationReply(BaseModel):
    """A conversation, without its messages and its API key."""

    id: str
    number: int = Field(description="Its id in the routes `/api/…`.")
    title: str
    graph: str
    model: str
    instructions: str
    base_url: str
    has_api_key: bool
    turns: int
    created_at: int = Field(description="Milliseconds since 1970.")
    updated_at: int = Field(description="Milliseconds since 1970.")


class Message(BaseModel):
    """One message of a conversation."""

    id: str
    position: int = Field(description="Counts the messages of the conversation, from 1.")
    role: Literal["user", "assistant"]
    content: str
    state: Literal["complete", "open", "interrupted", "failed"] = Field(
        description="`open`: the answer is still running. If `interrupted` or `failed`, it has the words until then."
    )
    created_at: int = Field(description="Milliseconds since 1970.")


@router.post("", status_code=201, summary="Create a conversation.")
async def create(given: NewConversation, state: State, who: CurrentUser) -> ConversationReply:
    """Create a conversation. Its API key is never shown again."""
    graph = _graph(state, given.graph or state.settings.conversation_graph)
    base_url = _checked(state, given.base_url) if given.base_url else ""
    if given.api_key and not base_url:
        named_upstream(state, given.model)
    values = given.model_dump(include={"title", "model", "instructions", "api_key"})
    return _reply(await state.conversations.create(who.user.id, graph=graph, base_url=base_url, **values))


@router.get("", summary="List the user's conversations, newest first.")
async def listed(
    state: State,
    who: CurrentUser,
    limit: Limit = 50,
    cursor: Cursor = "",
    search: Annotated[
        Text, Query(max_length=256, description="Return only conversations with this text in their title or messages.")
    ] = "",
) -> Page[ConversationReply]:
    """Return one page. Conversations that are created while you read the pages do not move the others."""
    found = await state.conversations.page(who.user.id, limit + 1, place_of(cursor), search)
    cursors = [cursor_of(one.created_at, one.id) for one in found]
    return Page[ConversationReply](**page_of([_reply(one) for one in found], limit, cursors))


@router.get("/{conversation_id}", summary="Get a conversation.")
async def get(conversation_id: Id, state: State, who: CurrentUser) -> ConversationReply:
    """Return one conversation, without its messages."""
    return _reply(await state.conversations.get(who.user.id, conversation_id))


@router.patch("/{conversation_id}", summary="Change a conversation.")
async def change(conversation_id: Id, given: Change, state: State, who: CurrentUser) -> ConversationReply:
    """Change the title, graph, model or instructions. The change applies from the next turn."""
    values = {name: value for name, value in given.model_dump().items() if value is not None}
    if "graph" in values:
        values["graph"] = _graph(state, values["graph"] or state.settings.conversation_graph)
    return _reply(await state.conversations.change(who.user.id, conversation_id, values))


@router.delete("/{conversation_id}", status_code=204, summary="Delete a conversation.", response_class=Response)
async def delete(conversation_id: Id, state: State, who: CurrentUser) -> None:
    """Delete a conversation with all its messages. A running turn ends."""
    await state.conversations.delete(who.user.id, conversation_id)


@router.get("/{conversation_id}/messages", summary="List the messages of a conversation, oldest first.")
async def messages(
    conversation_id: Id, state: State, who: CurrentUser, limit: Limit = 100, cursor: Cursor = ""
) -> Page[Message]:
    """Return one page of messages. `limit` counts turns: a question with its answer."""
    place = place_of(cursor)
    await state.conversations.get(who.user.id, conversation_id)
    after = min(place[0], 2**31 - 1) if place else 0
    turns = await state.conversations.turns(who.user.id, conversation_id, limit + 1, after)
    told = [message for turn in turns[:limit] for message in _messages(turn)]
    return Page[Message](data=told, next_cursor=cursor_of(turns[limit - 1].position) if len(turns) > limit else None)


@router.post("/{conversation_id}/title", summary="Generate a title.")
async def generate_title(conversation_id: Id, state: State, who: Talker) -> ConversationReply:
    """Let the model write a title. Without a model, the title is the beginning of the first message."""
    conversation = await state.conversations.get(who.user.id, conversation_id)
    title = await title_for(state, who, conversation)
    return _reply(await state.conversations.change(who.user.id, conversation_id, {"title": title}))


def _graph(state: ServerState, name: str) -> str:
    if name not in state.endpoints:
        known = ", ".join(map(repr, state.endpoints))
        raise ApiError(400, f"Unknown graph {name[:64]!r}. Accepted: {known}.", param="graph", code="unknown_graph")
    return name


def _checked(state: ServerState, url: str) -> str:
    try:
        return state.upstreams.check(url)
    except AddressError as error:
        raise ApiError(400, str(error), param="base_url", code="address_refused") from error


def _messages(turn: KeptTurn) -> list[Message]:
    def message(role: Literal["user", "assistant"], content: str, state: Any) -> Message:
        position = 2 * turn.position - (role == "user")
        return Message(
            id=f"{turn.id}.{role}", position=position, role=role, content=content, state=state,
            created_at=turn.created_at,
        )  # fmt: skip

    asked = message("user", turn.question, "complete")
    return [asked, message("assistant", turn.answer, turn.state)] if turn.answer or turn.state == "open" else [asked]


def _reply(one: Conversation) -> ConversationReply:
    return ConversationReply(
        id=one.id, number=one.number, title=one.title, graph=one.graph, model=one.model,
        instructions=one.instructions, base_url=one.base_url, has_api_key=one.sealed_key is not None, turns=one.turns,
        created_at=one.created_at, updated_at=one.updated_at,
    )  # fmt: skip
