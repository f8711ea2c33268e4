"""The one error a model can raise, with the kinds of failure told apart."""

from typing import Literal

Kind = Literal[
    "unreachable",  # no connection: refused, reset, unknown host
    "timeout",  # no first byte in time, or the total deadline passed
    "stalled",  # silence inside a started answer
    "rejected",  # the upstream refused the request as malformed (400, 413, 422)
    "unauthorized",  # the upstream refused the key (401, 403)
    "not_found",  # no such model or path upstream (404)
    "rate_limited",  # 429
    "unavailable",  # 503
    "failed",  # any other status, or an error inside the stream
    "malformed",  # broken JSON, not an event stream, a line or an event over the limit
    "incomplete",  # the stream ended without a finish
    "empty",  # a finish without a word or a tool call
]


KINDS_BY_STATUS: dict[int, Kind] = {
    400: "rejected",
    408: "unavailable",
    498: "unavailable",  # Groq: no capacity
    521: "unavailable",  # Cloudflare: the server behind it is down
    522: "timeout",
    523: "unavailable",
    524: "timeout",
    529: "unavailable",  # Anthropic: overloaded
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    413: "rejected",
    422: "rejected",
    429: "rate_limited",
    503: "unavailable",
    504: "timeout",
}
"""What an upstream's status means; any other is `failed`."""


class ModelError(Exception):
    """A model did not answer. The message is ours and names no address, key or body: it may reach the caller."""

    def __init__(self, kind: Kind, message: str, *, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.retry_after = retry_after
        """Seconds or an HTTP date, as the upstream said it."""
