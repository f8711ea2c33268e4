"""The times of one reply: when its first filler, word and sound were written, and the parts of the wait."""

from collections.abc import Mapping, Sequence
from typing import Any

from dialgraph.environment import Environment
from dialgraph.turn.events import Audio, Event, Fallback, Filler, Say, Transcript
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.times import ReplyMarks, TurnTimes, summed, times_data


class ReplyTimes:
    """Notes the times of one reply to one client."""

    def __init__(self, asked: TurnRequest, turn: TurnTimes, environment: Environment) -> None:
        self._environment = environment
        self._turn = turn
        now = environment.now()
        self.marks = ReplyMarks(asked.came or now, asked.read or now)
        turn.reply = turn.reply or self.marks
        self._fillers: set[str] = set()
        """The ids of sounds that are fillers."""
        self.listens = True
        """Whether something is still to be noted."""

    def note(self, events: Sequence[Event]) -> None:
        """Note the first filler, word and sound among these events, which were written to the socket now."""
        now, marks = self._environment.now(), self.marks
        for event in events:
            if isinstance(event, Audio):
                if event.id not in self._fillers:
                    marks.audio = marks.audio or now
            elif isinstance(event, Filler) or (isinstance(event, Transcript) and event.filler):
                marks.filler = marks.filler or now
                if isinstance(event, Transcript):
                    self._fillers.add(event.id)
            elif isinstance(event, Say | Transcript | Fallback) and event.text.strip():
                marks.word = marks.word or now
                self.listens = self.listens and isinstance(event, Transcript)  # its sound comes next
        self.listens = self.listens and not marks.audio

    def header(self) -> bytes:
        """Return the value of the header Server-Timing (W3C): the parts that are known now."""
        return ", ".join(f"{name};dur={ms}" for name, ms in self._parts().items()).encode()

    def data(self) -> dict[str, Any]:
        """Return the times in milliseconds as JSON data, for logs and for clients that ask."""
        return times_data(self.marks, self._environment.now(), self._parts())

    def spent(self) -> dict[str, Any]:
        """Return the tokens and the cost of the turn; empty while it goes on for other clients."""
        return {"tokens": self._turn.tokens, "cost_usd": self._turn.cost_usd} if self._turn.ended else {}

    def _parts(self) -> Mapping[str, float]:
        return summed(self._turn.parts(self.marks, self._environment.now()))
