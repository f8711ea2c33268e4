"""`POST …/responses`: the same turns in the form of OpenAI's Responses API."""

from typing import Any

from dialgraph.turn.request import TurnRequest
from server.protocols.chat_completions.request import CompletionRequest
from server.protocols.chat_completions.routes import Completions
from server.protocols.port import Wire
from server.protocols.responses.request import read_responses_request
from server.protocols.responses.wire import ResponsesWire


class Responses(Completions):
    """The ASGI application of one path."""

    carries_sound = False

    def read(
        self, data: dict[str, Any], headers: dict[str, str], query: dict[str, str], principal: str
    ) -> CompletionRequest:
        """Return the request, read from the body's JSON. Raises ApiError."""
        return read_responses_request(data, headers, query, principal)

    def wire(self, request: CompletionRequest, asked: TurnRequest) -> Wire:
        """Return the encoder for this request."""
        model = request.model or asked.endpoint
        environment = self._state.environment
        return ResponsesWire(model=model, profile=asked.profile, session=asked.call.id, environment=environment)
