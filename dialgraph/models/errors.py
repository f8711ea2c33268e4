"""The one error that a model raises, and its kinds."""

from dialgraph.http_client import Kind


class ModelError(Exception):
    """A model did not answer. The message contains no address, key or body, so it may reach the caller."""

    def __init__(self, kind: Kind, message: str, *, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.retry_after = retry_after
        """Seconds or an HTTP date, as the upstream sent it."""
