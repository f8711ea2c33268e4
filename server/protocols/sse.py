"""Chunks → bytes of an event stream: one line of JSON an event, a comment as keep-alive, one `[DONE]`."""

from collections.abc import Mapping
from typing import Any

import orjson

EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": ka\n\n"


def frame(chunk: Mapping[str, Any]) -> bytes:
    """One event. JSON text holds no line end, whatever the words hold."""
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
