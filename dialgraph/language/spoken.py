"""Words as they stream → what can be spoken by itself: sentences, and clauses of long ones. No character is lost."""

import re
from collections.abc import Iterator

from dialgraph.language.sentences import may_go_on, place_to_cut, sentences
from dialgraph.language.words import HAN_CHARACTER

CLAUSE = 150
"""How long a sentence may grow before it is cut at a clause: ten seconds of speech, which nobody waits for. A Chinese
character counts as three, because it is spoken as long as three letters."""
LONGEST = 300
"""How long, before it is cut at any space."""
_SHORTEST = 30
_PAUSE_SECONDS, _DOUBTFUL_PAUSE_SECONDS = 0.06, 0.3
_NUMBER = re.compile(r"\d\.$")
_HAN_COUNTS = 3
# A Latin mark ends a clause only before white space: not in 10,000, 12:30 or a:b.
# A run of marks is looked at once, from its beginning: a text of marks alone must not take forever.
_CLAUSE_END = re.compile(
    r"""(?<![，；：、—])[，；：、—]++[”’」』）)"']*+|(?<![,;:–—])[,;:–—]++[”’")\]]*+\s++|(?<=\s)[-–—]\s++"""
)


class SentenceCutter:
    """Holds what has not come to an end yet."""

    def __init__(self) -> None:
        self._held = ""

    @property
    def pause(self) -> float | None:
        """How long a model that says no more has paused when what is held has ended; None: it has not.

        A full stop may go on: "readme." with "txt", "6 a.m." with "on weekdays". A slow model says ten words a second.
        """
        held = self._held.rstrip()
        if not held or _NUMBER.search(held):
            return None
        if "\n" in self._held[len(held) :]:
            return _PAUSE_SECONDS
        # Whether it would be cut if another sentence began here.
        if "".join(sentences(f"{held} X")[:-1]).rstrip() != held:
            return None
        surely = not held.endswith(".") or (held != self._held and not may_go_on(held))
        return _PAUSE_SECONDS if surely else _DOUBTFUL_PAUSE_SECONDS

    def push(self, text: str) -> Iterator[str]:
        """What has come to its end. The last sentence is kept, even if it looks finished."""
        for at in range(0, len(text), LONGEST):  # a long text takes no longer than many short ones
            self._held += text[at : at + LONGEST]
            *whole, self._held = sentences(self._held) or [""]
            yield from whole
            while place := self._place():
                cut, self._held = self._held[:place], self._held[place:]
                yield cut

    def rest(self) -> str:
        """What is held, which is held no longer."""
        held, self._held = self._held, ""
        return held

    def _place(self) -> int:
        """Where a sentence that grows too long is cut; 0: not yet."""
        if len(self._held) * _HAN_COUNTS <= CLAUSE:
            return 0
        han = len(HAN_CHARACTER.findall(self._held))
        length = len(self._held) + han * (_HAN_COUNTS - 1)
        if length <= CLAUSE:
            return 0
        unit = length / len(self._held)
        ends = [end.end() for end in _CLAUSE_END.finditer(self._held) if _SHORTEST <= end.end() * unit <= LONGEST]
        # What is cut at is not the end: the next word may be part of a closing quote.
        inside = [end for end in ends if end < len(self._held)]
        return inside[-1] if inside else place_to_cut(self._held, int(LONGEST / unit))
