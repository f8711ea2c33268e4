"""`/api/conversations`: create, list, show and delete."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from dialgraph.users.accounts.accounts import Identity
from dialgraph.users.conversations.conversations import LARGEST_NUMBER
from dialgraph.users.conversations.values import Conversation
from server.api.about import State
from server.api.conversation_turn import named_upstream
from server.api.fields import Text, UpstreamKey, user
from server.errors import ApiError
from server.http.request_bodies import JsonRoute
from server.protocols.backend_api.router import REFUSALS, InLanguage, route
from server.protocols.backend_api.texts import text

router = APIRouter(
    prefix="/api/conversations", tags=["llm-backend-api: conversations"], route_class=JsonRoute, responses=REFUSALS
)
CurrentUser = Annotated[Identity, user("conversations")]
Number = Annotated[str, Path(description="The conversation's number.", examples=["329629"])]
MOST_LISTED = 1000


class NewConversation(BaseModel):
    """The settings of a new conversation."""

    title: Text = Field(min_length=1, max_length=256, examples=["My New Conversation"])
    model: Text = Field(min_length=1, max_length=256, examples=["gpt-4o"])
    api_key: UpstreamKey = Field(
        default="", description="The user's own API key for the model's provider.", examples=["sk-1"]
    )


@route(router, "POST", "/create", summary="Create a conversation.")
async def create(given: NewConversation, state: State, who: CurrentUser) -> dict[str, Any]:
    """Create a conversation. The reply shows its API key, which is never shown again."""
    if given.api_key:
        named_upstream(state, given.model)
    conversation = await state.conversations.create(
        who.user.id,
        title=given.title,
        model=given.model,
        graph=state.settings.conversation_graph,
        api_key=given.api_key,
    )
    return {
        "conversation_id": conversation.number, "title": conversation.title, "model": conversation.model,
        "api_key": given.api_key, "created_time": _seconds(conversation),
    }  # fmt: skip


@route(router, "GET", "/list", summary="List the user's conversations, newest first.")
async def listed(state: State, who: CurrentUser) -> list[dict[str, Any]]:
    """Return the newest 1000 conversations."""
    return [
        {"conversation_id": one.number, "title": one.title, "created_time": _seconds(one)}
        for one in await state.conversations.page(who.user.id, MOST_LISTED)
    ]


@route(router, "GET", "/history/{conversation_id}", summary="Get a conversation with its messages.")
async def history(conversation_id: Number, state: State, who: CurrentUser) -> dict[str, Any]:
    """Return the messages without system messages. The user's first message has the id 1."""
    conversation = await state.conversations.get(who.user.id, number_in(conversation_id))
    messages = []
    for turn in await state.conversations.turns(who.user.id, conversation.id):
        messages.append({"role": "user", "content": turn.question, "message_id": 2 * turn.position - 1})
        if turn.answer:
            messages.append({"role": "assistant", "content": turn.answer, "message_id": 2 * turn.position})
    return {
        "conversation_id": conversation.number, "title": conversation.title, "model": conversation.model,
        "messages": messages, "created_time": _seconds(conversation),
    }  # fmt: skip


@route(router, "POST", "/del/{conversation_id}", summary="Delete a conversation.")
async def delete(conversation_id: Number, state: State, who: CurrentUser, language: InLanguage) -> dict[str, str]:
    """Delete a conversation with all its messages."""
    await state.conversations.delete(who.user.id, number_in(conversation_id))
    return {"message": text("conversation_deleted", language)}


def number_in(given: object) -> int:
    """Return a conversation's number. Raises ApiError 400."""
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) <= 16:
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= LARGEST_NUMBER:
        raise ApiError(400, "The conversation's id must be a whole number.", code="invalid_conversation_id")
    return given


def _seconds(conversation: Conversation) -> int:
    return conversation.created_at // 1000
