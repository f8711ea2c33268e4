"""What is kept of a call between its turns, as a value; without the weight of the database that keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CallKey:
    """Whose call. Each part is in the WHERE clause of every query."""

    principal: str
    endpoint: str
    call_id: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known."""

    stage: str = ""
    slots: Mapping[str, Any] = field(default_factory=dict)
