"""When a request came and was read, and whether its client asks for the times of its turn."""

from collections.abc import Mapping
from typing import Final, TypedDict

from starlette.types import Scope

from dialgraph.environment import Environment
from dialgraph.records.choice import asked_in
from server.connection.extensions import CAME

TIMINGS: Final = "x-dialgraph-timings"
"""The header with which a client asks for the times of its turn: `true`."""


_LONGEST_TRACEPARENT: Final = 128


class Arrival(TypedDict):
    """Fields of `TurnRequest`."""

    came: float
    read: float
    record: str
    traceparent: str
    wants_timings: bool


def arrival(scope: Scope, headers: Mapping[str, str], environment: Environment) -> Arrival:
    """Return the fields for a request that has just been read."""
    now = environment.now()
    wants = headers.get(TIMINGS, "").strip().lower() in ("true", "1", "yes")
    came = scope.get("extensions", {}).get(CAME) or now
    return {
        "came": came, "read": now, "record": asked_in(headers), "wants_timings": wants,
        "traceparent": headers.get("traceparent", "")[:_LONGEST_TRACEPARENT],
    }  # fmt: skip
