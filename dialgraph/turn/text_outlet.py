"""The outlet that words pass on their way to the ear: each stage turns text into what may be said, as it streams."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import orjson

from dialgraph.turn.events import Action, Citations, Event, Finish, Metadata, Relay, Say, Timing, Usage
from dialgraph.turn.line import Sink, nowhere

_SILENT = (Timing, Usage, Finish, Metadata, Citations)
"""What may overtake words that are held back: it is not for the ear."""


class Stage(Protocol):
    """Turns text into other text while it streams, such as `dialgraph.language.guard.Guard`."""

    def push(self, text: str) -> str:
        """What of it, and of what was held back, can be said now."""

    def flush(self) -> str:
        """The rest: no more will come."""


class TextOutlet:
    """Passes words through its stages, one behind the other. Whatever else is for the ear comes behind held words."""

    def __init__(self, make_stages: Callable[[], Sequence[Stage]], *, keeps_reasoning: bool) -> None:
        self.sink: Sink = nowhere
        self._make_stages = make_stages
        self._stages = make_stages()
        self._keeps_reasoning = keeps_reasoning

    @property
    def promised(self) -> bool:
        """Never: a guard may yet drop all of it."""
        return False

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
            await self.sink(self._checked(event) if isinstance(event, Action) else event)

    async def flush(self) -> None:
        """See the port."""
        await self.end_words()

    async def end_words(self) -> None:
        """Say all that is held back."""
        text = ""
        for stage in self._stages:
            text = (stage.push(text) if text else "") + stage.flush()
        if text:
            await self.sink(Say(text))

    async def aclose(self) -> None:
        """Nothing runs here."""

    def _checked(self, action: Action) -> Action:
        """Some hosts speak what stands in an action's arguments."""
        arguments = {name: self._whole(value) for name, value in action.arguments.items()}
        given = action.given
        if given:
            values = {
                name: self._whole(value) if isinstance(value, str) else value
                for name, value in orjson.loads(given).items()
            }
            given = orjson.dumps(values).decode()
        return replace(action, arguments=arguments, given=given)

    def _whole(self, text: str) -> str:
        """A whole text at once. What has no words, such as a phone number to call, is not speech."""
        if not any(character.isalpha() for character in text) or " " not in text.strip():
            return text
        for stage in self._make_stages():
            text = stage.push(text) + stage.flush()
        return text

    async def _relay(self, event: Relay) -> None:
        """Reasoning is not spoken; a refusal is, for hosts that only read content."""
        kept = {key: value for key, value in event.delta.items() if self._keeps_reasoning or "reasoning" not in key}
        if not self._keeps_reasoning and isinstance(words := kept.pop("refusal", None), str):
            await self.push(Say(words))
        if event.audible:
            await self.flush()
        if kept:
            await self.sink(event if len(kept) == len(event.delta) else Relay(kept))
