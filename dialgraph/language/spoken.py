"""Cuts streamed words into pieces that can be spoken: sentences, and clauses of long ones. No character is lost."""

import re
from collections.abc import Iterator

from dialgraph.language.sentences import may_go_on, place_to_cut, sentences
from dialgraph.language.words import HAN_CHARACTER

CLAUSE = 150
"""The length from which a sentence is cut at a clause: ten seconds of speech, which is too long to wait for. A Chinese
character counts as three, because it takes as long to say as three letters."""
LONGEST = 300
"""The length from which it is cut at any space."""
_SHORTEST = 30
_PAUSE_SECONDS, _DOUBTFUL_PAUSE_SECONDS = 0.06, 0.3
_NUMBER = re.compile(r"\d\.$")
_HAN_COUNTS = 3
# A Latin mark ends a clause only before white space: not in 10,000, 12:30 or a:b.
# A run of marks is checked only from its beginning. Otherwise a long run would take quadratic time.
_CLAUSE_END = re.compile(
    r"""(?<![，；：、—])[，；：、—]++[”’」』）)"']*+|(?<![,;:–—])[,;:–—]++[”’")\]]*+\s++|(?<=\s)[-–—]\s++"""
)


class SentenceCutter:
    """Holds back text that is not yet a whole sentence."""

    def __init__(self) -> None:
        self._held = ""

    @property
    def pause(self) -> float | None:
        """How long to wait, in seconds, before the held text counts as whole; None: it is not at an end.

        A text after a full stop may go on: "readme." with "txt", "6 a.m." with "on weekdays". A slow model sends ten
        words per second.
        """
        held = self._held.rstrip()
        if not held or _NUMBER.search(held):
            return None
        if "\n" in self._held[len(held) :]:
            return _PAUSE_SECONDS
        # Check whether it would be cut if another sentence began here.
        if "".join(sentences(f"{held} X")[:-1]).rstrip() != held:
            return None
        surely = not held.endswith(".") or (held != self._held and not may_go_on(held))
        return _PAUSE_SECONDS if surely else _DOUBTFUL_PAUSE_SECONDS

    def push(self, text: str) -> Iterator[str]:
        """Yield the pieces that are whole. The last sentence is held back, even if it looks finished."""
        for at in range(0, len(text), LONGEST):  # so that a long text takes no longer than many short ones
            self._held += text[at : at + LONGEST]
            *whole, self._held = sentences(self._held) or [""]
            yield from whole
            while place := self._place():
                cut, self._held = self._held[:place], self._held[place:]
                yield cut

    def rest(self) -> str:
        """Return the held text, and clear it."""
        held, self._held = self._held, ""
        return held

    def _place(self) -> int:
        """Return where to cut a sentence that is too long; 0: not yet."""
        if len(self._held) * _HAN_COUNTS <= CLAUSE:
            return 0
        han = len(HAN_CHARACTER.findall(self._held))
        length = len(self._held) + han * (_HAN_COUNTS - 1)
        if length <= CLAUSE:
            return 0
        unit = length / len(self._held)
        ends = [end.end() for end in _CLAUSE_END.finditer(self._held) if _SHORTEST <= end.end() * unit <= LONGEST]
        # A clause must end inside the text: the next word may begin with a closing quote.
        inside = [end for end in ends if end < len(self._held)]
        return inside[-1] if inside else place_to_cut(self._held, int(LONGEST / unit))
