"""Replies to HTTP/1.0 clients, which cannot read chunks. The body ends with the connection (RFC 9112, 6.1 and 6.3)."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class PlainReply:
    """Replaces the `send` of a uvicorn cycle, so that the reply is not chunked."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send

    async def __call__(self, message: Any) -> None:
        """Send an ASGI message, without chunked encoding."""
        if message["type"] == "http.response.start":
            counted = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if not counted:
                self._cycle.chunked_encoding = False
        elif message["type"] == "http.response.body" and not self._cycle.expected_content_length:
            self._cycle.expected_content_length = len(message.get("body", b""))
        await self._send(message)
