"""The values and errors of conversations."""

from dataclasses import dataclass, field
from typing import Literal

State = Literal["open", "complete", "interrupted", "failed"]
"""The state of a turn. `interrupted`: the caller interrupted it, or the server was killed. `failed`: an error ended it.
In both cases its answer is what was spoken until then."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of one user."""

    id: str
    number: int
    """Its id for clients of `llm-backend-api`, which only know numbers."""
    title: str
    graph: str
    model: str
    """The upstream's name of the model; empty: the model of the graph."""
    instructions: str
    """The system message at the start of each prompt; often empty."""
    base_url: str
    """The address of the user's own upstream; empty: the server's upstream."""
    turns: int
    created_at: int
    """In milliseconds since 1970."""
    updated_at: int
    sealed_key: bytes | None = field(default=None, repr=False)
    """The user's own key for the upstream, encrypted."""


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """A stored turn: a question and its answer."""

    id: str
    position: int
    """Counts from 1, without gaps."""
    question: str
    answer: str
    state: State
    created_at: int
    """In milliseconds since 1970."""


class ConversationError(Exception):
    """A request about a conversation is not possible. The message is for its user."""


class UnknownConversationError(ConversationError):
    """No conversation with this id belongs to this user."""


class BusyConversationError(ConversationError):
    """Another turn of the conversation is running."""


class PassedTurnError(ConversationError):
    """The request repeats a turn that was not completed, but the conversation has continued since."""


class OtherRequestError(ConversationError):
    """The same request key was used with another message."""
