"""What a conversation is, as values."""

from dataclasses import dataclass, field
from typing import Literal

State = Literal["open", "complete", "interrupted", "failed"]
"""Of a turn. `interrupted`: somebody broke in, or the server was killed; `failed`: an error ended it. Either way its
answer is what was spoken until then."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of one user."""

    id: str
    number: int
    """Its id for clients of system 003, which know numbers only."""
    title: str
    graph: str
    model: str
    """The upstream's name of the model; empty: the graph's own."""
    instructions: str
    """What stands before the first message of each prompt; often nothing."""
    base_url: str
    """The user's own upstream; empty: the server's."""
    turns: int
    created_at: int
    """In milliseconds since 1970."""
    updated_at: int
    sealed_key: bytes | None = field(default=None, repr=False)
    """The user's own key for the upstream, encrypted."""


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """What was asked and what was answered."""

    id: str
    position: int
    """From 1, without a gap."""
    question: str
    answer: str
    state: State
    created_at: int
    """In milliseconds since 1970."""


class ConversationError(Exception):
    """What was asked of a conversation is not possible. The message is for its user."""


class UnknownConversationError(ConversationError):
    """There is none of this id that belongs to this user."""


class BusyConversationError(ConversationError):
    """Another turn of the conversation is running."""


class PassedTurnError(ConversationError):
    """A turn that was cut is asked for again, and the conversation has gone on."""


class OtherRequestError(ConversationError):
    """The same request key came with another message."""
