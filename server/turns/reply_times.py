"""The times of one reply: when its first filler, word and sound were written, and the parts of the wait."""

from collections.abc import Mapping, Sequence
from typing import Any

from dialgraph.environment import Environment
from dialgraph.turn.events import Audio, Event, Fallback, Filler, Say, Transcript
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.times import Part, TurnTimes

Milliseconds = float


class ReplyTimes:
    """Notes the times of one reply to one client."""

    def __init__(self, asked: TurnRequest, turn: TurnTimes, environment: Environment) -> None:
        self._environment = environment
        self._turn = turn
        now = environment.now()
        self.came = asked.came or now
        """When the request came, on the environment's clock; `filler`, `word` and `audio` too. 0: not yet."""
        self._read = asked.read or now
        self.filler = self.word = self.audio = 0.0
        self._fillers: set[str] = set()
        """The ids of sounds that are fillers."""
        self.listens = True
        """Whether something is still to be noted."""

    def note(self, events: Sequence[Event]) -> None:
        """Note the first filler, word and sound among these events, which were written to the socket now."""
        now = self._environment.now()
        for event in events:
            if isinstance(event, Audio):
                if event.id not in self._fillers:
                    self.audio = self.audio or now
            elif isinstance(event, Filler) or (isinstance(event, Transcript) and event.filler):
                self.filler = self.filler or now
                if isinstance(event, Transcript):
                    self._fillers.add(event.id)
            elif isinstance(event, Say | Transcript | Fallback) and event.text.strip():
                self.word = self.word or now
                self.listens = self.listens and isinstance(event, Transcript)  # its sound comes next
        self.listens = self.listens and not self.audio

    def since(self, mark: float) -> Milliseconds:
        """Return the milliseconds from the request to this mark, or 0 if it has not happened."""
        return round((mark - self.came) * 1000, 1) if mark else 0.0

    @property
    def total(self) -> Milliseconds:
        """Return the milliseconds since the request came."""
        return self.since(self._environment.now())

    def parts(self) -> list[Part]:
        """Return the parts of the wait until the first word, or until the first sound if the words become sound."""
        heard = self.audio or self.word
        return self._turn.parts(self.came, self._read, heard or self._environment.now(), sound=bool(self.audio))

    def header(self) -> bytes:
        """Return the value of the header Server-Timing (W3C): the parts that are known now."""
        return ", ".join(f"{name};dur={ms}" for name, ms in summed(self.parts()).items()).encode()

    def data(self) -> dict[str, Any]:
        """Return the times as JSON data, for a client that asks for them."""
        marks = {"filler_ms": self.filler, "first_word_ms": self.word, "first_audio_ms": self.audio}
        known = {name: self.since(mark) for name, mark in marks.items() if mark}
        return {**known, "total_ms": self.total, "parts": summed(self.parts())}


def summed(parts: Sequence[Part]) -> Mapping[str, Milliseconds]:
    """Return the parts by name, in the order in which they began. Parts of the same name are added up."""
    found: dict[str, float] = {}
    for part in parts:
        found[str(part)] = found.get(str(part), 0.0) + part.ms
    return {name: round(ms, 3) for name, ms in found.items()}
