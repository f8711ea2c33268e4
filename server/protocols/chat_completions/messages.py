"""`POST /v1/conversations/{id}/messages`, as plain ASGI, and the headers of a conversation's turns."""

from functools import partial

from starlette.types import Receive, Scope, Send

from dialgraph.turn.request import TurnRequest
from server.api.conversation_turn import TEXT, converse
from server.errors import ApiError
from server.http.asgi_io import Replying, headers_of, run_with_one_reply, send_error
from server.http.json_body import read_object
from server.http.request_bodies import JSON_BYTES, read_body
from server.protocols.chat_completions.wire import ChatWire
from server.state import ServerState
from server.turns.arrival import arrival

CONVERSATION = "x-dialgraph-conversation"
"""The header of a request to an OpenAI endpoint that continues a conversation."""
REQUEST_KEY = "idempotency-key"
LONGEST_REQUEST_KEY = 256


class Messages:
    """The ASGI application of this path."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate the user, read the message and answer it."""
        send = Replying(send)
        async with run_with_one_reply(send, "/v1/conversations/…/messages", partial(send_error, send)):
            headers = headers_of(scope)
            identity = await self._state.authenticator.identify(scope, headers, "chat")
            with self._state.body_room.place(identity.principal) as place:
                body = await read_object(await read_body(receive, headers, JSON_BYTES, place))
            content, streaming = body.get("content"), body.get("stream", False)
            if not isinstance(content, str):
                raise ApiError(400, "`content` must be text.", param="content", code="invalid_value")
            if not isinstance(streaming, bool):
                raise ApiError(400, "`stream` must be true or false.", param="stream", code="invalid_value")
            conversation = scope["path_params"]["conversation_id"]
            asked = TurnRequest(
                [{"role": "user", "content": content}],
                profile=TEXT,
                streaming=streaming,
                carries_sound=False,
                conversation=conversation,
                request_key=request_key_in(headers),
                **arrival(scope, headers, self._state.environment),
            )
            wire = ChatWire(
                model="dialgraph",
                include_usage=True,
                profile=TEXT,
                session=conversation,
                environment=self._state.environment,
            )
            await converse(self._state, identity, asked, wire, scope, receive, send)


def request_key_in(headers: dict[str, str]) -> str | None:
    """Return the request's `Idempotency-Key`, or None. Raises ApiError 400."""
    key = headers.get(REQUEST_KEY)
    if key is not None and not (0 < len(key) <= LONGEST_REQUEST_KEY and key.isascii() and key.isprintable()):
        message = f"The header `Idempotency-Key` must have 1 to {LONGEST_REQUEST_KEY} printable ASCII characters."
        raise ApiError(400, message, param="Idempotency-Key", code="invalid_value")
    return key
