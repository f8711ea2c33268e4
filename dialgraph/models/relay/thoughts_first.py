"""Answers that begin inside a thought. Their chat template already wrote `<think>`, so only `</think>` arrives."""

import re
from typing import Final

_BEGIN: Final = "<think>"
_END: Final = re.compile(r"</think\s*>", re.IGNORECASE)


class ThoughtsFirst:
    """Holds an answer back until its thought has ended. An answer without a thought is held back to its end."""

    def __init__(self) -> None:
        self._held = ""
        self._over = False

    def push(self, text: str) -> tuple[str, str]:
        """Return the thought that is now complete, and the words that can be said."""
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
        """Return the text that is still held back, at the end of the answer. It is not known to be a thought."""
        held, self._held = self._held, ""
        return held
