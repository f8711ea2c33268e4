"""One turn of a call in Python: what was said and heard, what the model was sent, what was found, and when."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from dialgraph.calls.html import page, passages_table, prompt_list, waterfall
from dialgraph.models.port import Message
from dialgraph.passages import Passage
from dialgraph.speech.wav import with_its_length
from dialgraph.turn.events import Action, Audio, Event, Fallback, Filler, Say, Timing, Transcript, Usage
from dialgraph.turn.turn import Turn
from dialgraph.turn.watching import ModelCall, Watcher


@dataclass
class CallTurn:
    """A turn that has ended. A notebook shows it with its waterfall, its passages and its sound."""

    said: str
    """What the caller said; empty for an opening or a silence."""
    words: str = ""
    """What the caller heard."""
    model_calls: list[ModelCall] = field(default_factory=list)
    """Each call of a model, with its prompt and its raw answer."""
    state: dict[str, object] = field(default_factory=dict)
    """What the steps wrote to the state."""
    actions: list[Action] = field(default_factory=list)
    """What the host is asked to do: hang up, transfer, press keys."""
    timeline: list[Timing] = field(default_factory=list)
    """The steps with their times, in milliseconds since the turn began."""
    usage: Usage | None = None
    first_word_ms: float | None = None
    total_ms: float = 0.0
    audio: bytes = b""
    """The sound as a WAV file; empty without sound."""
    error: Exception | None = None
    """The error after which the fallback line was spoken."""
    interrupted: bool = False

    @property
    def prompt(self) -> Sequence[Message]:
        """Return the messages of the last call of a model; empty if no model was asked."""
        return self.model_calls[-1].messages if self.model_calls else []

    @property
    def passages(self) -> Sequence[Passage]:
        """Return the passages that were found, best first."""
        found = self.state.get("passages")
        return cast("Sequence[Passage]", found) if isinstance(found, Sequence) else []

    def __str__(self) -> str:
        """Return the turn on a few lines: what was said, what was heard, and the time of each step."""
        steps = " · ".join(f"{one.step} {one.ended_ms - one.started_ms:.1f} ms" for one in self.timeline)
        done = " ".join(f"→ {action.kind}" for action in self.actions)
        lines = (f"caller: {self.said}" if self.said else "", f"agent: {self.words}", done, steps)
        return "\n".join(filter(None, lines))

    def _repr_html_(self) -> str:
        sound = base64.b64encode(self.audio).decode() if self.audio else ""
        parts = [waterfall(self.timeline, self.first_word_ms, self.total_ms)]
        if self.passages:
            parts.append(passages_table(self.passages))
        if self.prompt:
            parts.append(prompt_list(self.prompt))
        return page(self.said, self.words, [action.kind for action in self.actions], sound, parts)


class Recorder(Watcher):
    """Collects a turn while it runs."""

    def __init__(self, said: str, turn: Turn) -> None:
        self.turn = CallTurn(said)
        self._clock = turn.line.elapsed_ms

    @property
    def words_heard(self) -> int:
        """Return how many words the caller has heard."""
        return len(self.turn.words.split())

    async def asked(self, call: ModelCall) -> None:
        """Keep the call. Its answer is filled in while it arrives."""
        self.turn.model_calls.append(call)

    async def stepped(self, step: str, update: Mapping[str, object]) -> None:
        """Keep what a step wrote."""
        self.turn.state.update(update)

    def heard(self, event: Event) -> None:
        """Collect one event."""
        made = self.turn
        made.total_ms = self._clock()
        match event:
            case Say(text=text) | Filler(text=text) | Transcript(text=text):
                if made.first_word_ms is None and text.strip():
                    made.first_word_ms = made.total_ms
                made.words += text
            case Fallback(text=text, error=error):
                made.words += text
                made.actions, made.error = [], error
            case Action():
                made.actions.append(event)
            case Audio(data=data):
                made.audio += data
            case Timing():
                made.timeline.append(event)
            case Usage():
                made.usage = event
            case _:
                pass

    def ended(self) -> CallTurn:
        """Return the turn. The header of its sound names its length now: a header that is streamed cannot."""
        self.turn.audio = with_its_length(self.turn.audio)
        return self.turn

    def interrupted(self, after_words: int) -> None:
        """Forget what the caller did not hear any more."""
        made, heard = self.turn, 0
        made.interrupted = True
        for at, character in enumerate(made.words):
            ends = at + 1 == len(made.words) or made.words[at + 1].isspace()
            heard += ends and not character.isspace()
            if heard == after_words:
                made.words = made.words[: at + 1]
                break
        if not after_words:
            made.words = ""
