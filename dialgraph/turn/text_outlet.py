"""The text outlet: its stages change the streamed text into text that may be spoken."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import orjson

from dialgraph.turn.events import Action, Citations, Event, Finish, Metadata, Relay, Say, Timing, Usage
from dialgraph.turn.line import Sink, nowhere

_SILENT = (Timing, Usage, Finish, Metadata, Citations)
"""The events that are sent immediately, even while words are held back. The caller does not hear them."""


class Stage(Protocol):
    """The port of a stage: it changes text while it streams. An example is `dialgraph.language.guard.Guard`."""

    def push(self, text: str) -> str:
        """Add text, and return the text that can be said now."""

    def flush(self) -> str:
        """Return the rest of the text, because something else comes next."""

    def end(self) -> str:
        """Return the rest of the text, because the turn ends."""


class TextOutlet:
    """Passes words through its stages in order. Other events that the caller hears come after words held back."""

    def __init__(self, make_stages: Callable[[], Sequence[Stage]], *, keeps_reasoning: bool) -> None:
        self.sink: Sink = nowhere
        self._make_stages = make_stages
        self._stages = make_stages()
        self._keeps_reasoning = keeps_reasoning
        self.recorded: list[str | None] | None = None
        """The words as they came, with None where the words that were held back were passed on. None: not recorded."""

    @property
    def promised(self) -> bool:
        """Return False, because a guard may still drop all words."""
        return False

    def record(self, earlier: Sequence[str | None]) -> None:
        """Continue after what an earlier run has recorded, and record what comes now."""
        for words in earlier:
            text = words or ""
            for stage in self._stages:
                text = (stage.push(text) if text else "") + (stage.flush() if words is None else "")
        self.recorded = list(earlier)

    async def push(self, event: Event) -> None:
        """Pass words through the stages, and other events in their order."""
        if type(event) is Say:
            text = event.text
            if self.recorded is not None:
                self.recorded.append(text)
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
        """Say all words that are held back."""
        await self.end_words()

    async def end_words(self, *, last: bool = False) -> None:
        """Pass all words that are held back to the sink. `last`: the turn ends."""
        if self.recorded:
            self.recorded.append(None)
        text = ""
        for stage in self._stages:
            text = (stage.push(text) if text else "") + (stage.end() if last else stage.flush())
        if text:
            await self.sink(Say(text))

    async def aclose(self) -> None:
        """Do nothing, because this outlet runs no tasks."""

    def _checked(self, action: Action) -> Action:
        """Return the action with its arguments passed through the stages, because some hosts speak them."""
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
        """Pass a complete text through the stages. Text that is not speech, such as a phone number, is not changed."""
        if not any(character.isalpha() for character in text) or " " not in text.strip():
            return text
        for stage in self._make_stages():
            text = stage.push(text) + stage.flush()
        return text

    async def _relay(self, event: Relay) -> None:
        """Relay the delta without reasoning, which is not spoken. Speak a refusal, for hosts that read only content."""
        kept = {key: value for key, value in event.delta.items() if self._keeps_reasoning or "reasoning" not in key}
        if not self._keeps_reasoning and isinstance(words := kept.pop("refusal", None), str):
            await self.push(Say(words))
        if event.audible:
            await self.flush()
        if kept:
            await self.sink(event if len(kept) == len(event.delta) else Relay(kept))
