"""Answers that begin inside a thought: their chat template wrote `<think>` for them, so only its end is seen."""

import re
from typing import Final

_BEGIN: Final = "<think>"
_END: Final = re.compile(r"</think\s*>", re.IGNORECASE)


class ThoughtsFirst:
    """Holds an answer until its thought has ended. One that has no thought is held to its end."""

    def __init__(self) -> None:
        self._held = ""
        self._over = False

    def push(self, text: str) -> tuple[str, str]:
        """The thought that is whole now, and the words that can be said."""
        if self._over:
            return "", text
        self._held += text
        end = _END.search(self._held)
        if end is None:
            return "", ""
        thought, words = self._held[: end.start()], self._held[end.end() :]
        self._over, self._held = True, ""
        return thought.strip().removeprefix(_BEGIN).strip(), words.lstrip()

    def rest(self) -> str:
        """What was held and is not known to be a thought: no more will come."""
        held, self._held = self._held, ""
        return held
