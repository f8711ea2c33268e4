"""`POST …/chat/completions`: plain ASGI, from the request's bytes to the last `[DONE]`.

Requests are refused before the first byte, with a status. From the moment that the request is read, the client is
watched, to notice when it leaves.
"""

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from dialgraph.environment import in_thread
from dialgraph.profiles.choose import known_profiles
from dialgraph.turn.request import TurnRequest
from dialgraph.users.accounts.accounts import Identity
from server.access.auth import Requester
from server.api.admit import admitted
from server.api.conversation_turn import converse
from server.endpoints import Endpoint
from server.errors import FORESEEN, ApiError, api_error, shutting_down
from server.http.asgi_io import Replying, headers_of, send_error
from server.http.body_room import HeldBytes
from server.http.json_body import read_object
from server.http.request_bodies import read_body
from server.http.send_run import send_run
from server.protocols.chat_completions.messages import CONVERSATION, request_key_in
from server.protocols.chat_completions.request import CompletionRequest, read_request
from server.protocols.chat_completions.wire import ChatWire
from server.protocols.port import Wire
from server.state import ServerState
from server.turns.arrival import Arrival, arrival


class Completions:
    """The ASGI application of one path: serves one graph, or picks one by the request's `model`."""

    carries_sound = True
    """Whether a reply can contain sound."""

    def __init__(self, state: ServerState, endpoint: Endpoint, *, picks: bool = False) -> None:
        self._state = state
        self._endpoint = endpoint
        self._picks = picks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate, read the request, and run and send the turn. Send an error as a reply."""
        serving = False
        try:
            headers = headers_of(scope)
            requester = await self._state.authenticator.authenticate(scope, headers)
            with self._state.body_room.place(requester.principal) as place:
                request = await self._read(scope, receive, headers, requester, place)
                arrived = arrival(scope, headers, self._state.environment)
                endpoint, asked = self._asked(requester, request, headers, arrived)
                if self._state.settings.require_stream and not asked.streaming:
                    message = "This server only sends streams: `stream` must be true."
                    raise ApiError(400, message, param="stream", code="stream_required")
                if self._state.draining:
                    raise shutting_down()
                wire = self.wire(request, asked)
                if asked.conversation is not None:
                    send = Replying(send)
                    await converse(self._state, _user_of(requester), asked, wire, scope, receive, send)
                    return
                if place.counted:
                    await in_thread(lambda: asked.key)  # hashing a large request takes a while
                async with admitted(self._state, requester.identity, asked.messages, asked.parameters) as admission:
                    run = self._state.runs.start_or_join(endpoint, asked, admission)
                    serving = True
                    await send_run(
                        run, asked, wire, self._state.settings, self._state.environment, scope, receive, send
                    )
        except ClientDisconnect:
            return
        except FORESEEN as error:
            await send_error(send, api_error(error))
        except asyncio.CancelledError:  # the grace period has ended
            if serving or (isinstance(send, Replying) and send.begun):
                raise
            await send_error(send, shutting_down())

    def read(
        self, data: dict[str, Any], headers: dict[str, str], query: dict[str, str], principal: str
    ) -> CompletionRequest:
        """Return the request, read from the body's JSON. Raises ApiError."""
        return read_request(data, headers, query, principal)

    def wire(self, request: CompletionRequest, asked: TurnRequest) -> Wire:
        """Return the encoder for this request."""
        return ChatWire(
            model=request.model or asked.endpoint,
            include_usage=request.include_usage or not asked.streaming,
            profile=asked.profile,
            session=asked.call.id,
            environment=self._state.environment,
        )

    async def _read(
        self, scope: Scope, receive: Receive, headers: dict[str, str], requester: Requester, place: HeldBytes
    ) -> CompletionRequest:
        content_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if content_type != "application/json" and not content_type.endswith("+json"):
            raise ApiError(415, "The Content-Type must be `application/json`.", code="unsupported_media_type")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, "The body must not be compressed.", code="unsupported_encoding")
        data = await read_object(await read_body(receive, headers, self._state.settings.body_limit, place))
        query = dict(Request(scope).query_params)
        return self.read(data, headers, query, requester.principal)

    def _asked(
        self, requester: Requester, request: CompletionRequest, headers: dict[str, str], arrived: Arrival
    ) -> tuple[Endpoint, TurnRequest]:
        """Return the endpoint and the turn for it. Raises ApiError."""
        endpoint, model = self._pick(request)
        policy = endpoint.spec.policy
        profile = policy.applied_to(known_profiles()[policy.profile] if policy.profile else request.profile)
        conversation = headers.get(CONVERSATION)
        asked = TurnRequest(
            messages=request.messages,
            parameters=request.parameters,
            call=request.call,
            profile=profile,
            model=model,
            api_key=requester.upstream_key,
            streaming=profile.streams if request.stream is None else request.stream,
            endpoint=endpoint.spec.name,
            carries_sound=self.carries_sound,
            conversation=conversation,
            request_key=None if conversation is None else request_key_in(headers),
            **arrived,
        )
        return endpoint, asked

    def _pick(self, request: CompletionRequest) -> tuple[Endpoint, str]:
        """Return the endpoint and the upstream's name of the model.

        On the common path, `model` selects both: `rag`, or `rag/gpt-4o-mini`.
        """
        graph, _, model = request.model.partition("/")
        endpoints = self._state.endpoints
        if self._picks and graph in endpoints:
            return endpoints[graph], model
        if graph == self._endpoint.spec.name:
            return self._endpoint, model
        return self._endpoint, request.model


def _user_of(requester: Requester) -> Identity:
    """Return the user of a conversation's request. Raises ApiError 401 if there is none."""
    if requester.identity is None:
        message = "A conversation belongs to a user: send the user's token or key."
        raise ApiError(401, message, "authentication_error", "no_api_key", headers={"WWW-Authenticate": "Bearer"})
    return requester.identity
