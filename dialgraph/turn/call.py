"""The call that a turn belongs to, as the host describes it. Never use it for authorization: a client can forge it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CallInfo:
    """One phone call or voice session. Every field may be empty."""

    id: str = ""
    turn_id: str = ""
    caller_number: str = ""
    callee_number: str = ""
    channel: str = ""
    user_data: str = ""
    source: str = ""
    """What began the turn, if it was not words of the caller: `greeting`, `silence`, `voicemail` …"""
    interrupted: str = ""
    """What the caller heard of our last answer before a barge-in. Empty if there was no barge-in."""
    principal: str = ""
    """The name under which the request was let in: a key, or a user. The server sets it, never the request."""
    extras: Mapping[str, object] = field(default_factory=dict)
    """Every query parameter and every field of the body except the messages, as the host sent them."""
