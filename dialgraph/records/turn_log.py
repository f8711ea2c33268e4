"""The log of one turn while it runs: what reached it and what left it, in the order in which that happened.

Adding an entry must cost next to nothing, so entries are values as they are. `lines.py` makes JSON of them when the
turn is over.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Final

from dialgraph.models.parts import Say

MOST_ENTRIES: Final = 200_000
"""A turn with more entries is cut in its record."""


class Kind(StrEnum):
    """The kinds of entries. The first ones are frequent."""

    PART = "part"
    """A part of a model's answer has come: number of the call, part."""
    OUT = "out"
    """An event has left the line: event."""
    WRITTEN = "written"
    """What had left the line was written to a client's socket: number of the client."""
    STEP = "step"
    """A step begins: its name, the keys of the state that it can read."""
    STEPPED = "stepped"
    """A step has ended: its name, what it wrote. Its outcome is in its event Timing."""
    ASKED = "asked"
    """A model is asked: number of the call, name, messages, parameters, upstream's name of the model."""
    ANSWERED = "answered"
    """A model's answer has ended: number of the call, error."""
    CALLED = "called"
    """A tool is called: number of the call, name, arguments, idempotency key."""
    RETURNED = "returned"
    """A tool has returned: number of the call, result, error."""
    SEARCHED = "searched"
    """A store was asked: number, name, question, options."""
    FOUND = "found"
    """A store has answered: number, passages, error."""
    SPEAK = "speak"
    """A voice is asked: number, name, text, voice."""
    SOUND = "sound"
    """A piece of a voice's speech has come: number, sound."""
    SPOKE = "spoke"
    """A voice has ended: number, error."""
    HEAR = "hear"
    """A transcriber is asked: number, name, sound, format."""
    HEARD = "heard"
    """A transcriber has answered: number, words, error."""
    LOADED = "loaded"
    """The memory of the call was read: stage, slots."""
    SAVED = "saved"
    """The memory of the call was stored: stage, slots."""
    FIRED = "fired"
    """A timer of the turn has fired: its name."""
    CLIENT = "client"
    """A client did something: its number, `came`, `joined` or `left`."""
    DREW = "drew"
    """The environment gave a value: `id`, `date` or `chance`, and the value."""


Entry = Any
"""An entry of the log: a tuple of the time in seconds, the kind and its values; or one of five short forms.

A number is the time of the short forms that follow it. A text is a part of the answer of the model that spoke last, and
PASSED says that this part left the line as it came. OWN says that the text that follows it has left the line, and is no
part as it came. SENT: everything was written to the first client's socket.

Short forms go into the record as they are. And a tuple for each word would keep the garbage collector busy.
"""
PASSED: Final = True
SENT: Final = False
OWN: Final = None

PASSED_ON: Final = -1
"""The place of an event whose text is an entry of its own already."""


class TurnLog:
    """Collects the entries of one turn."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: the environment's clock."""
        self.now = now
        self.entries: list[Entry] = []
        self.tuples: list[int] = []
        """The places of the entries that are tuples."""
        self.clients = 0
        """How many clients have listened to the turn."""
        self._numbers = 0
        self._speaker = 0
        self._last: object = None
        """The last part that came from a model, if nothing else has come since."""

    def add(self, *entry: Any) -> None:
        """Add an entry: its kind and its values."""
        self._last = None
        self._append((self.now(), *entry))

    def _append(self, entry: tuple[Any, ...]) -> None:
        if len(self.entries) < MOST_ENTRIES:
            self.tuples.append(len(self.entries))
            self.entries.append(entry)

    def part(self, number: int, part: object) -> None:
        """Add a part of the answer to a call of a model."""
        self._last = part
        entries = self.entries
        if type(part) is Say and part.logprobs is None and number == self._speaker:
            entries.append(self.now())
            entries.append(part.text)
            return
        self._speaker = number
        self._append((self.now(), Kind.PART, number, part))

    def out(self, event: object) -> None:
        """Add an event that has left the line."""
        if event is self._last:
            self._last = None
            self.entries.append(PASSED)
        elif type(event) is Say and event.logprobs is None:
            self._last = None
            self.entries += (self.now(), OWN, event.text)
        else:
            self.add(Kind.OUT, event)

    def written(self, client: int) -> None:
        """Add that everything was written to the socket of this client."""
        self._last = None
        if client == 1:
            self.entries.append(self.now())
            self.entries.append(SENT)
        else:
            self.add(Kind.WRITTEN, client)

    def rare(self) -> Iterator[tuple[Any, ...]]:
        """Yield the entries that are tuples."""
        return (self.entries[at] for at in self.tuples)

    def left(self) -> Iterator[tuple[int, object]]:
        """Yield everything that has left the line: the place of the entry, and the event, or the text of a Say."""
        entries = self.entries
        for at, entry in enumerate(entries):
            if entry is PASSED:
                before = entries[at - 1]
                yield PASSED_ON, before if type(before) is str else before[3]
            elif entry is OWN:
                yield at + 1, entries[at + 1]
            elif type(entry) is tuple and entry[1] is Kind.OUT:
                yield at, entry[2]

    def number(self) -> int:
        """Return a new number for a call of an engine."""
        self._numbers += 1
        return self._numbers
