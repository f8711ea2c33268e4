"""What a model can answer: plain frozen values, in the order they are to reach the caller."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Say:
    """Words for the caller."""

    audible: ClassVar[bool] = True
    text: str
    logprobs: Mapping[str, object] | None = None
    """As the upstream gave them for these words; only when the caller asked."""


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A fragment of a tool call that the model makes; parts of one call share their index."""

    audible: ClassVar[bool] = True
    index: int
    """Dense from 0; a call's first part carries its id and name."""
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    """A piece of the JSON text of the arguments."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """What the provider attached to the call, such as Google's `extra_content`; it wants it back."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A delta that is neither words nor a tool call (reasoning, refusal, audio of the model): passed on as it came."""

    delta: Mapping[str, object]

    @property
    def audible(self) -> bool:
        """A refusal and the model's own sound are for the ear; reasoning and annotations are not."""
        return "refusal" in self.delta or "audio" in self.delta


@dataclass(frozen=True, slots=True)
class Usage:
    """What the answer cost, in tokens."""

    audible: ClassVar[bool] = False
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    details: Mapping[str, object] = field(default_factory=dict)
    """Further fields of the upstream's usage, such as `prompt_tokens_details`."""
    estimated: bool = False
    """Whether the server told none, so that we guessed."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the model stopped: `stop`, `length`, `content_filter` or `tool_calls`."""

    audible: ClassVar[bool] = False
    reason: str


Part = Say | ToolCallPart | Relay | Usage | Finish
