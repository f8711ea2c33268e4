"""Chunks → bytes of an event stream: one line of JSON per event, a comment as keep-alive, one `[DONE]`."""

from collections.abc import Mapping
from typing import Any

import orjson

EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": ka\n\n"


def frame(chunk: Mapping[str, Any]) -> bytes:
    """Return one event. JSON escapes line ends, so an event is always one line."""
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
