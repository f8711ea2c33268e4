"""Words as they stream → what can be spoken by itself: sentences, and clauses of long ones. No character is lost."""

import re

from language.sentences import place_to_cut, sentences
from language.words import HAN_CHARACTER

CLAUSE = 150
"""How long a sentence may grow before it is cut at a clause: ten seconds of speech, which nobody waits for. A Chinese
character counts as three, because it is spoken as long as three letters."""
LONGEST = 300
"""How long, before it is cut at any space."""
_SHORTEST = 30
_NUMBER = re.compile(r"\d\.$")
_HAN_COUNTS = 3
# A Latin mark ends a clause only before white space: not in 10,000, 12:30 or a:b.
_CLAUSE_END = re.compile(r"""[，；：、—]+[”’」』）)"']*|[,;:–—]+[”’")\]]*\s+|\s[-–—]\s+""")


class SentenceCutter:
    """Holds what has not come to an end yet."""

    def __init__(self) -> None:
        self._held = ""

    @property
    def complete(self) -> bool:
        """Whether what is held looks like the end of a sentence, though more may come: "3." may go on with "5"."""
        held = self._held.rstrip()
        if not held or _NUMBER.search(held):
            return False
        # Whether it would be cut if another sentence began here.
        return "".join(sentences(f"{held} X")[:-1]).rstrip() == held

    def push(self, text: str) -> list[str]:
        """What has come to its end. The last sentence is kept, even if it looks finished."""
        self._held += text
        *whole, self._held = sentences(self._held) or [""]
        while place := self._place():
            whole.append(self._held[:place])
            self._held = self._held[place:]
        return whole

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
