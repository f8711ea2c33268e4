"""Exceptions → a status and OpenAI's error envelope. No other file maps exceptions to statuses."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from dialgraph.graph.errors import StepTimeoutError, StoppedError
from dialgraph.http_client import Kind
from dialgraph.models.errors import ModelError
from dialgraph.passages import QueryError, StoreError
from dialgraph.services.errors import UnknownServiceError
from dialgraph.speech.port import VoiceError
from dialgraph.speech.recordings import RecordingError
from dialgraph.storage.errors import DatabaseAwayError, DatabaseError, DatabaseFullError
from dialgraph.users.accounts.errors import AccountError, BusyError, GoneUserError, NameTakenError, WrongPasswordError
from dialgraph.users.conversations.values import (
    BusyConversationError,
    ConversationError,
    OtherRequestError,
    PassedTurnError,
    UnknownConversationError,
)
from knowledge.document import QueueFullError
from knowledge.knowledge_base import QuotaError, UnknownBaseError, UnknownDocumentError

log = logging.getLogger(__name__)


@dataclass(eq=False)
class ApiError(Exception):
    """An error that is sent to the client. Its message never contains a path, a secret or a request's body."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def envelope(self) -> dict[str, object]:
        """Return the error in OpenAI's form, which every client can read."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        """Return the envelope as JSON."""
        return orjson.dumps(self.envelope())


_STATUSES: Final[dict[Kind, int]] = {
    "unreachable": 502,
    "timeout": 504,
    "stalled": 504,
    "rejected": 400,
    "unauthorized": 502,  # the server's key is wrong; with a 401 the client would check its own key
    "not_found": 404,
    "rate_limited": 429,
    "unavailable": 503,
    "failed": 502,
    "malformed": 502,
    "incomplete": 502,
    "empty": 502,
}
_DATABASE_RETRY_SECONDS: Final = "5"
_RETRY: Final[dict[int, Mapping[str, str]]] = {409: {"Retry-After": "1"}, 429: {"Retry-After": "1"}}
_REFUSALS: Final[dict[type[Exception], tuple[int, str, str]]] = {
    UnknownConversationError: (404, "invalid_request_error", "unknown_conversation"),
    BusyConversationError: (409, "invalid_request_error", "conversation_busy"),
    OtherRequestError: (422, "invalid_request_error", "idempotency_key_reused"),
    NameTakenError: (409, "invalid_request_error", "name_taken"),
    WrongPasswordError: (401, "authentication_error", "wrong_password"),
    GoneUserError: (401, "authentication_error", "invalid_token"),
    BusyError: (429, "rate_limit_error", "too_many_requests"),
    PassedTurnError: (409, "invalid_request_error", "turn_passed"),
    UnknownServiceError: (409, "invalid_request_error", "unknown_embedder"),
    UnknownBaseError: (404, "invalid_request_error", "unknown_knowledge_base"),
    UnknownDocumentError: (404, "invalid_request_error", "unknown_document"),
    QueryError: (400, "invalid_request_error", "invalid_value"),
    QuotaError: (413, "invalid_request_error", "quota_exceeded"),
    QueueFullError: (429, "rate_limit_error", "too_many_requests"),
    AccountError: (400, "invalid_request_error", "invalid_value"),
    ConversationError: (400, "invalid_request_error", "invalid_value"),
}
_TYPES: Final = {400: "invalid_request_error", 404: "invalid_request_error", 429: "rate_limit_error"}


FORESEEN: Final[tuple[type[Exception], ...]] = (
    ApiError, *_REFUSALS, ModelError, VoiceError, RecordingError, StoreError, DatabaseError,
)  # fmt: skip
"""Exceptions that routes may raise: each is sent to the client with its own status and message."""


def api_error(error: BaseException, *, callers_key: bool = False) -> ApiError:
    """Return the error that the client receives. For an unexpected error it has no details; they are in the log.

    `callers_key`: the request used the client's own key for the model, so a wrong key is the client's mistake (401).
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ModelError):
        status = 401 if callers_key and error.kind == "unauthorized" else _STATUSES[error.kind]
        headers = {"Retry-After": error.retry_after} if error.retry_after and _is_safe(error.retry_after) else {}
        return ApiError(
            status,
            str(error),
            _TYPES.get(status, "upstream_error"),
            f"upstream_{error.kind}",
            headers=headers,
        )
    if isinstance(error, VoiceError):
        # If the speech server does not know the path or model, the settings are wrong. The client's address is right.
        status = 502 if error.kind == "not_found" else _STATUSES[error.kind]
        return ApiError(status, str(error), _TYPES.get(status, "upstream_error"), f"voice_{error.kind}")
    if isinstance(error, RecordingError):
        return ApiError(500, str(error), "server_error", "recording_unplayable")
    if isinstance(error, StoppedError):
        return superseded()
    if isinstance(error, StepTimeoutError):
        return ApiError(504, str(error), "server_error", "step_timeout")
    if isinstance(error, DatabaseFullError):
        return ApiError(507, "The server has no storage space left.", "server_error", "database_full")
    if isinstance(error, DatabaseAwayError):
        headers = {"Retry-After": _DATABASE_RETRY_SECONDS}
        return ApiError(
            503, "The database is not available. Please try again.", "server_error", "database_away", headers=headers
        )
    if isinstance(error, tuple(_REFUSALS)):
        status, kind, code = next(answer for known, answer in _REFUSALS.items() if isinstance(error, known))
        return ApiError(status, str(error), kind, code, headers=_RETRY.get(status, {}))
    if isinstance(error, StoreError | DatabaseError):
        return ApiError(503, "The store is not available.", "server_error", "store_unavailable")
    return ApiError(500, "Internal server error. The server's log has the details.", "server_error", "internal_error")


def error_reply_for(error: Exception, where: str) -> ApiError:
    """Return the error that the client receives, and write an unexpected one to the log with its details."""
    told = api_error(error)
    if told.status == 500:
        log.error("a request failed", exc_info=error, extra={"path": where})
    return told


def shutting_down() -> ApiError:
    """Return the error of a stopping server, for new turns and for turns that run too long."""
    return ApiError(503, "The server is stopping. Please try again.", "server_error", "server_shutdown")


def conversation_gone() -> ApiError:
    """Return the error for a turn whose conversation was deleted, or whose user is gone."""
    return ApiError(404, "The conversation was deleted.", code="conversation_gone")


def superseded() -> ApiError:
    """Return the error for a turn that a newer turn of the same call replaced.

    No client sends a request again after a 499, so the old turn cannot end the new one.
    """
    return ApiError(499, "A newer turn of the same call replaced this one.", "invalid_request_error", "superseded")


def _is_safe(value: str) -> bool:
    return len(value) <= 64 and value.isascii() and value.isprintable()
