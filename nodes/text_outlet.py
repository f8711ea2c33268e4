"""The outlet that words pass on their way to the ear: each stage turns text into what may be said, as it streams."""

from collections.abc import Sequence
from typing import Protocol

from nodes.events import Event, Finish, Metadata, Relay, Say, Timing, Usage
from nodes.line import Sink, nowhere

_SILENT = (Timing, Usage, Finish, Metadata)
"""What may overtake words that are held back: it is not for the ear."""


class Stage(Protocol):
    """Turns a text into another while it streams: `language.markup.Markup`, `language.guard.Guard` …"""

    def push(self, text: str) -> str:
        """What of it, and of what was held back, can be said now."""

    def flush(self) -> str:
        """The rest: no more will come."""


class TextOutlet:
    """Passes words through its stages, one behind the other. Whatever else is for the ear comes behind held words."""

    def __init__(self, stages: Sequence[Stage], *, keeps_reasoning: bool) -> None:
        self.sink: Sink = nowhere
        self._stages = stages
        self._keeps_reasoning = keeps_reasoning

    async def push(self, event: Event) -> None:
        """See the class."""
        if type(event) is Say:
            text = event.text
            for stage in self._stages:
                text = stage.push(text)
                if not text:
                    return
            await self.sink(event if text == event.text else Say(text))
        elif isinstance(event, _SILENT):
            await self.sink(event)
        elif isinstance(event, Relay):
            await self._relay(event)
        else:
            await self.flush()
            await self.sink(event)

    async def flush(self) -> None:
        """Say all that is held back."""
        text = ""
        for stage in self._stages:
            text = (stage.push(text) if text else "") + stage.flush()
        if text:
            await self.sink(Say(text))

    async def aclose(self) -> None:
        """Nothing runs here."""

    async def _relay(self, event: Relay) -> None:
        """Reasoning is no speech."""
        kept = {key: value for key, value in event.delta.items() if self._keeps_reasoning or "reasoning" not in key}
        if event.audible:
            await self.flush()
        if kept:
            await self.sink(event if len(kept) == len(event.delta) else Relay(kept))
