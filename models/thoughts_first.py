"""Answers that begin inside a thought: their chat template wrote `<think>` for them, so only its end is seen."""

from typing import Final

_BEGIN: Final = "<think>"
_END: Final = "</think>"


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
        thought, end, words = self._held.partition(_END)
        if not end:
            return "", ""
        self._over, self._held = True, ""
        return thought.strip().removeprefix(_BEGIN).strip(), words.lstrip()

    def rest(self) -> str:
        """What was held and was no thought: no more will come."""
        held, self._held = self._held, ""
        return held
