"""One turn of a user's conversation over HTTP: it begins in the database, runs, is sent to the client and is stored."""

from dataclasses import replace
from typing import Final

from starlette.types import Receive, Scope, Send

from dialgraph.models.history.text import last_user_text
from dialgraph.models.port import ChatModel
from dialgraph.profiles.profile import Profile
from dialgraph.run.run import State
from dialgraph.storage.text import cleaned
from dialgraph.turn.call import CallInfo
from dialgraph.turn.events import Say
from dialgraph.turn.request import TurnRequest
from dialgraph.users.accounts.accounts import Identity
from dialgraph.users.accounts.encryption import EncryptionError
from dialgraph.users.conversations.prompt import messages_for
from dialgraph.users.conversations.turns import BegunTurn
from dialgraph.users.conversations.values import Conversation, KeptTurn
from server.api.admit import admitted
from server.endpoints import Endpoint
from server.errors import ApiError, shutting_down
from server.http.asgi_io import send_json, send_stream, watched
from server.http.send_run import send_run
from server.protocols.port import Wire
from server.state import ServerState
from server.turns.admission import Admission
from server.turns.turn_recorder import TurnRecord

TEXT: Final = Profile(name="text", fills_silence=True, speakable=False, streams=True)
"""The profile for a person who reads: words stay as the model wrote them, and no silence is filled."""
LONGEST_MESSAGE: Final = 100_000
"""In characters."""


async def converse(
    state: ServerState, identity: Identity, asked: TurnRequest, wire: Wire, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer the last message of the request as a turn of its conversation. The earlier turns come from the database.

    Raises errors before the first byte; after it, the client receives them in the stream.
    """
    if state.draining:
        raise shutting_down()
    message = _message_of(asked)
    said = [{"role": "user", "content": message}]
    async with admitted(state, identity, said, asked.parameters) as admission:
        conversation = await state.conversations.get(identity.user.id, asked.conversation or "")
        endpoint = endpoint_of(state, asked.endpoint or conversation.graph)
        upstream, key = own_upstream(state, conversation)
        async with watched(receive) as gone:
            begun = await state.conversation_turns.begin(
                identity.user.id, conversation.id, message, asked.request_key, lambda: not gone.is_set()
            )
        wire.name_after(begun.id)
        if isinstance(begun, KeptTurn):
            await _tell_again(begun, wire, send, streaming=asked.streaming)
            return
        asked = replace(
            asked,
            messages=messages_for(conversation.instructions, begun.earlier, message),
            call=CallInfo(id=conversation.id, turn_id=begun.id, principal=identity.principal),
            model=conversation.model if upstream else servers_model(state, conversation.model),
            api_key=key,
            endpoint=endpoint.spec.name,
            upstream=upstream,
        )
        await _run(state, endpoint, asked, admission, begun, wire, scope, receive, send)


def _message_of(asked: TurnRequest) -> str:
    message = cleaned(last_user_text(asked.messages))
    if not message.strip():
        raise ApiError(400, "The message is empty.", param="message", code="invalid_value")
    if len(message) > LONGEST_MESSAGE:
        told = f"The message is longer than {LONGEST_MESSAGE} characters."
        raise ApiError(400, told, param="message", code="invalid_value")
    return message


async def _run(
    state: ServerState,
    endpoint: Endpoint,
    asked: TurnRequest,
    admission: Admission,
    begun: BegunTurn,
    wire: Wire,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    record = TurnRecord(state.recorder, begun, profile=asked.profile, streaming=asked.streaming)
    ended: State = "failed"
    try:
        run = state.runs.start_or_join(endpoint, asked, admission, record)
        ended = "interrupted"
        record.follow(run)
        await send_run(run, asked, wire, state.settings, state.environment, scope, receive, send)
    finally:
        await record.close(ended)  # the run has already done so, unless it did not begin or was stopped before


def own_upstream(state: ServerState, conversation: Conversation) -> tuple[ChatModel | None, str]:
    """Return the user's own upstream and their key for it; None if the conversation uses the server's model.

    Raises ApiError 409 if the key cannot be decrypted.
    """
    try:
        key = state.conversations.key_of(conversation)
    except EncryptionError as error:
        message = f"The conversation's API key cannot be decrypted: {error}"
        raise ApiError(409, message, code="key_unreadable") from error
    if conversation.base_url:
        return state.upstreams.model(conversation.base_url), key
    if not key:
        return None, ""
    return state.upstreams.trusted(named_upstream(state, conversation.model)), key


def named_upstream(state: ServerState, model: str) -> str:
    """Return the base URL of a model that a user's own key is for. Raises ApiError 400 if the settings have none."""
    if (url := upstream_of(state, model)) is None:
        known = ", ".join(f"{name}…" for name in state.settings.upstreams)
        message = f"No upstream is set for the model {model[:64]!r}. Accepted names begin with: {known}."
        raise ApiError(400, message, param="model", code="unknown_model")
    return url


def upstream_of(state: ServerState, model: str) -> str | None:
    """Return the base URL that the setting `upstreams` has for a model's name; None if no prefix matches."""
    found = [url for prefix, url in state.settings.upstreams.items() if model.lower().startswith(prefix.lower())]
    return found[0] if found else None


def servers_model(state: ServerState, model: str) -> str:
    """Return the model's name for the server's own upstream. Empty (its default model) if another upstream has it."""
    theirs = upstream_of(state, model)
    main = state.settings.model_addresses()["main"].url
    return model if theirs is None or theirs.rstrip("/") == main.rstrip("/") else ""


def endpoint_of(state: ServerState, graph: str) -> Endpoint:
    """Return the endpoint of a graph. Raises ApiError 409 if an old conversation's graph is not served any more."""
    if graph not in state.endpoints:
        raise ApiError(
            409,
            f"The graph {graph!r} is not served any more. Choose another graph for the conversation.",
            code="unknown_graph",
        )
    return state.endpoints[graph]


async def _tell_again(kept: KeptTurn, wire: Wire, send: Send, *, streaming: bool) -> None:
    said = [Say(kept.answer)] if kept.answer else []
    if streaming:
        await send_stream(send, wire.media_type, wire.stream(said) + wire.stream_end())
    else:
        wire.fold(said)
        await send_json(send, 200, wire.body())
