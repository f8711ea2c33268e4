"""What those who watch a turn learn: the calls of models, and what each step writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dialgraph.models.parts import ToolCallPart, Usage
from dialgraph.models.port import Message
from dialgraph.turn.times import ModelTime


@dataclass(slots=True)
class ModelCall:
    """What a model was sent, and its answer once it has ended."""

    step: str
    model: str
    """The name of the model in the settings."""
    messages: Sequence[Message]
    """The prompt, exactly as it was sent."""
    parameters: Mapping[str, object]
    said: list[str] = field(default_factory=list)
    """The words of the answer, as the model wrote them."""
    tool_calls: dict[int, dict[str, str]] = field(default_factory=dict)
    """The tools that it called, by the model's index: `id`, `name` and `arguments` of each."""
    usage: Usage | None = None
    time: ModelTime = field(default_factory=lambda: ModelTime("", "", 0.0))
    """Its times. The turn sets them when the model is asked."""

    def ended(self, now: float, failure: BaseException | None) -> None:
        """Note when the answer ended, its tokens, and the kind of its error."""
        self.time.ended = now
        self.time.error = str(getattr(failure, "kind", type(failure).__name__)) if failure is not None else ""
        if self.usage is not None:
            self.time.prompt_tokens = self.usage.prompt_tokens
            self.time.completion_tokens = self.usage.completion_tokens
            self.time.estimated = self.usage.estimated
            details = self.usage.details.get("prompt_tokens_details")
            cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
            self.time.cached_tokens = (
                cached if isinstance(cached, int) and 0 <= cached <= self.usage.prompt_tokens else 0
            )

    def add(self, part: ToolCallPart) -> None:
        """Add a part of a tool call."""
        call = self.tool_calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
        call["id"], call["name"] = part.id or call["id"], part.name or call["name"]
        call["arguments"] += part.arguments


class Watcher:
    """Watches a turn. Override what is needed: traces, logs and notebooks each need something else."""

    async def asked(self, call: ModelCall) -> None:
        """Learn that a model is asked now."""

    async def answered(self, call: ModelCall, error: BaseException | None) -> None:
        """Learn that its answer has ended. `error`: what it failed with, or None."""

    async def stepping(self, step: str, state: Mapping[str, object]) -> None:
        """Learn that a step begins, and the keys of the state that it can read."""

    async def stepped(self, step: str, update: Mapping[str, object]) -> None:
        """Learn what a step has written to the state."""
