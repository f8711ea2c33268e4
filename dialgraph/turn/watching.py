"""What those who watch a turn learn: the calls of models, and what each step writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dialgraph.models.parts import ToolCallPart, Usage
from dialgraph.models.port import Message


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

    async def stepped(self, step: str, update: Mapping[str, object]) -> None:
        """Learn what a step has written to the state."""
