"""The values of the call memory: what is stored of a call between its turns. Does not import the database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CallKey:
    """The key of one call. Every query has each part in its WHERE clause."""

    principal: str
    endpoint: str
    call_id: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is stored of a call."""

    stage: str = ""
    slots: Mapping[str, Any] = field(default_factory=dict)
