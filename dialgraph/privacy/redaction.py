"""The one redaction policy: what logs, records, traces and exports show instead of private values."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dialgraph.privacy.finders import Words, no_words, private_values
from dialgraph.privacy.stand_ins import stand_in

_FEWEST_DIGITS: Final = 7
"""A shorter number is no card and no phone number."""
_LONGEST_TEXT: Final = 200_000
"""A longer text is cut: nobody reads it in a log, and searching it would take long."""


class Redactor:
    """Replaces private values with stand-ins. The same value gets the same stand-in everywhere."""

    def __init__(self, key: bytes, *words: Words) -> None:
        """`key`: a secret; without it nobody can tell what a stand-in stands for. `words`: find the author's words."""
        self._key = key
        self._words = words

    def and_words(self, *words: Words) -> "Redactor":
        """Return a redactor with the same stand-ins that finds these words too."""
        more = [one for one in words if one is not no_words]
        return Redactor(self._key, *self._words, *more) if more else self

    def text(self, text: str) -> str:
        """Return the text with stand-ins. Its length stays the same, up to a limit."""
        text = text[:_LONGEST_TEXT]
        found = private_values(text, *self._words)
        for one in reversed(found):
            text = text[: one.start] + stand_in(text[one.start : one.end], one.kind, self._key) + text[one.end :]
        return text

    def pieces(self, pieces: Sequence[str]) -> list[str]:
        """Return the pieces of one text with stand-ins, also for values that begin in one piece and end in another."""
        whole = "".join(pieces)
        redacted = self.text(whole) + whole[_LONGEST_TEXT:]
        if redacted == whole:
            return list(pieces)
        made, at = [], 0
        for piece in pieces:
            made.append(redacted[at : at + len(piece)])
            at += len(piece)
        return made

    def data(self, data: Any) -> Any:
        """Return JSON data with stand-ins in all its texts, names and long numbers."""
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, Mapping):
            return {self.text(str(name)): self.data(value) for name, value in data.items()}
        if isinstance(data, Iterable) and not isinstance(data, bytes | bytearray):
            return [self.data(value) for value in data]
        if isinstance(data, int) and not isinstance(data, bool) and len(str(abs(data))) >= _FEWEST_DIGITS:
            redacted = self.text(str(data))
            return int(redacted) if redacted.lstrip("-").isdigit() else redacted
        return data


def new_key() -> bytes:
    """Return a new key for stand-ins."""
    return secrets.token_bytes(32)
