"""From what went wrong to a status and OpenAI's error envelope: the only place that knows statuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from database.errors import DatabaseError
from graphs.errors import StepTimeoutError
from knowledge.store import StoreError
from models.errors import Kind, ModelError


@dataclass(eq=False)
class ApiError(Exception):
    """What a caller is told. The message is ours and holds no path, secret or body of anybody."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def envelope(self) -> dict[str, object]:
        """OpenAI's form: the one shape that every client reads."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        """The envelope as JSON."""
        return orjson.dumps(self.envelope())


_STATUSES: Final[dict[Kind, int]] = {
    "unreachable": 502,
    "timeout": 504,
    "stalled": 504,
    "rejected": 400,
    "unauthorized": 502,  # the server's key, not the caller's: a 401 would send him looking for his own
    "not_found": 404,
    "rate_limited": 429,
    "unavailable": 503,
    "failed": 502,
    "malformed": 502,
    "incomplete": 502,
    "empty": 502,
}
_TYPES: Final = {400: "invalid_request_error", 404: "invalid_request_error", 429: "rate_limit_error"}


def api_error(error: BaseException, *, callers_key: bool = False) -> ApiError:
    """What the caller is told of it. An error that nobody foresaw tells him nothing; the log has it."""
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
    if isinstance(error, StepTimeoutError):
        return ApiError(504, str(error), "server_error", "step_timeout")
    if isinstance(error, StoreError | DatabaseError):
        return ApiError(503, "The knowledge base cannot be read.", "server_error", "store_unavailable")
    return ApiError(500, "The server failed to answer.", "server_error", "internal_error")


def shutting_down() -> ApiError:
    """For new turns, and for those that the grace period was too short for."""
    return ApiError(503, "The server is stopping. Please try again.", "server_error", "server_shutdown")


def superseded() -> ApiError:
    """For a turn whose call has gone on. No client tries 499 again, so the old turn cannot end the new one."""
    return ApiError(499, "A newer turn of the same call has taken its place.", "invalid_request_error", "superseded")


def _is_safe(value: str) -> bool:
    return len(value) <= 64 and value.isascii() and value.isprintable()
