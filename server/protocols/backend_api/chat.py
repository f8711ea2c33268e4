"""`/api/chat/:id` and `/api/rag/chat`: send a message in a conversation and receive the answer as a stream."""

from dataclasses import replace
from typing import Any, Literal

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from dialgraph.turn.request import TurnRequest
from dialgraph.users.accounts.accounts import Identity
from server.api.conversation_turn import TEXT, converse
from server.errors import ApiError
from server.http.asgi_io import Replying, headers_of, run_with_one_reply, send_json
from server.http.json_body import read_object
from server.http.request_bodies import JSON_BYTES, read_body
from server.protocols.backend_api.conversations import number_in
from server.protocols.backend_api.router import usual_language
from server.protocols.backend_api.texts import Language, language_of
from server.protocols.backend_api.wire import BackendApiWire
from server.protocols.chat_completions.messages import request_key_in
from server.protocols.chat_completions.wire import ChatWire
from server.protocols.port import Wire
from server.state import ServerState
from server.turns.arrival import arrival

Form = Literal["events", "lines", "openai"]


class Chat:
    """The ASGI application of `/api/chat/{conversation_id}`."""

    scopes: tuple[str, ...] = ("chat",)
    """The scopes that a key must have."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate the user, read the message and answer it."""
        language: Language = usual_language(scope["path"])
        send = Replying(send)

        async def refuse(error: ApiError) -> None:
            body = BackendApiWire("events", language).refusal(error)
            await send_json(send, error.status, body, error.headers)

        async with run_with_one_reply(send, "/api/chat", refuse):
            headers = headers_of(scope)
            language = language_of(headers.get("accept-language"), language)
            wire = self._wire(scope, headers, language)
            identity, asked = await self._read(scope, receive, headers)
            asked = replace(asked, **arrival(scope, headers, self._state.environment))
            await converse(self._state, identity, asked, wire, scope, receive, send)

    async def asked(
        self, identity: Identity, scope: Scope, headers: dict[str, str], body: dict[str, Any]
    ) -> TurnRequest:
        """Return the turn that the request asks for. Raises ApiError 400."""
        return said_in(body, number_in(scope["path_params"]["conversation_id"]), headers)

    async def _read(self, scope: Scope, receive: Receive, headers: dict[str, str]) -> tuple[Identity, TurnRequest]:
        # Check the key before the body is read.
        for needed in self.scopes:
            identity = await self._state.authenticator.identify(scope, headers, needed)
        with self._state.body_room.place(identity.principal) as place:
            body = await read_object(await read_body(receive, headers, JSON_BYTES, place))
        return identity, await self.asked(identity, scope, headers, body)

    def _wire(self, scope: Scope, headers: dict[str, str], language: Language) -> Wire:
        form: str = Request(scope).query_params.get("stream_format", self._state.settings.api_stream)
        if "application/x-ndjson" in headers.get("accept", ""):
            form = "lines"
        if form == "openai":
            return ChatWire(
                model="dialgraph", include_usage=True, profile=TEXT, session="", environment=self._state.environment
            )
        if form not in ("events", "lines"):
            message = "`stream_format` must be one of events, lines, openai."
            raise ApiError(400, message, param="stream_format", code="invalid_value")
        return BackendApiWire("events" if form == "events" else "lines", language)


def said_in(body: dict[str, Any], conversation: int, headers: dict[str, str]) -> TurnRequest:
    """Return the turn that the body asks for. Raises ApiError 400."""
    return TurnRequest(
        [{"role": "user", "content": text_in(body, "message")}],
        profile=TEXT,
        carries_sound=False,
        conversation=conversation,
        request_key=request_key_in(headers),
    )


def text_in(body: dict[str, Any], name: str) -> str:
    """Return a field that must be a text. Raises ApiError 400."""
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ApiError(400, f"`{name}` must be text and not empty.", param=name, code="invalid_value")
    return value
