"""Which call a turn belongs to, as the host told us. What stands here authorises nothing: a caller can write it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Call:
    """One phone call or voice session; every field may be empty."""

    id: str = ""
    turn_id: str = ""
    caller_number: str = ""
    callee_number: str = ""
    channel: str = ""
    user_data: str = ""
    source: str = ""
    """What began the turn, where it was not the caller's words: `greeting`, `silence`, `voicemail` …"""
    interrupted: str = ""
    """What the caller heard of our last answer before he broke in; empty if he let us finish."""
    principal: str = ""
    """The name of the key that the request was let in with; set by the server, never read from the request."""
    extras: Mapping[str, object] = field(default_factory=dict)
    """Every query parameter and every field of the body but the messages, as the host sent them."""
