"""The parts of a model's answer: frozen values, in the order in which they reach the caller."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Say:
    """Words for the caller."""

    audible: ClassVar[bool] = True
    text: str
    logprobs: Mapping[str, object] | None = None
    """The upstream's values for these words; only if the request asked for them."""


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A fragment of a tool call that the model makes. Parts of one call share their index."""

    audible: ClassVar[bool] = True
    index: int
    """Counts from 0 without gaps. The first part of a call carries its id and name."""
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    """A piece of the JSON text of the arguments."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Data that the provider attached to the call, such as Google's `extra_content`. The provider needs it back."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A delta that is neither words nor a tool call (reasoning, refusal, the model's audio), passed on unchanged."""

    delta: Mapping[str, object]

    @property
    def audible(self) -> bool:
        """Return whether the caller hears it: a refusal and the model's audio yes, reasoning and annotations no."""
        return "refusal" in self.delta or "audio" in self.delta


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of the answer, in tokens."""

    audible: ClassVar[bool] = False
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    details: Mapping[str, object] = field(default_factory=dict)
    """Further fields of the upstream's usage, such as `prompt_tokens_details`."""
    estimated: bool = False
    """Whether we estimated the usage because the server sent none."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the model stopped: `stop`, `length`, `content_filter` or `tool_calls`."""

    audible: ClassVar[bool] = False
    reason: str


Part = Say | ToolCallPart | Relay | Usage | Finish
