"""The one redaction policy: what logs, records, traces and exports show instead of private values."""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from dialgraph.privacy.finders import Words, no_words, private_values
from dialgraph.privacy.stand_ins import stand_in

_FEWEST_DIGITS: Final = 7
"""A shorter number is no card and no phone number."""
_SHORTEST_KEY: Final = 6
_SECRET_NAME: Final = re.compile(r"(?i)(?:api[_-]?key|authorization|password|secret|access_token|auth_token)$|^token$")
"""Names of fields whose whole value is private."""
_PLAIN_NUMBER: Final = re.compile(r"(?i)^seed$|^created$|timestamp|_at$|_ms$|tokens?$")
_USUAL_NAME: Final = 64
"""Longer names of fields are not remembered: a client may send any."""
_LONGEST_TEXT: Final = 1_000_000
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
        """Return the pieces of one text with stand-ins, also for values that begin in one piece and end in another.

        JSON with escaped characters comes back in the first piece. What is beyond the limit is left out.
        """
        whole = "".join(pieces)
        if "\\u" in whole and (decoded := _decoded(whole)) is not None:
            return [self._as_json(decoded), *[""] * (len(pieces) - 1)]
        redacted = self.text(whole)
        if redacted == whole:
            return list(pieces)
        made, at = [], 0
        for piece in pieces:
            made.append(redacted[at : at + len(piece)])
            at += len(piece)
        return made

    def name(self, name: str) -> str:
        """Return the name of a field. The author's words are not looked for: a field may have any name."""
        if len(name) <= _USUAL_NAME and _is_plain(name):
            return name
        return Redactor(self._key).text(name)

    def secret(self, value: str) -> str:
        """Return the stand-in of a value that is a key as a whole."""
        return stand_in(value, "key", self._key)

    def value(self, name: str, text: str) -> str:
        """Return the text of a field. In a field such as `password` all of it is private."""
        if len(text) >= _SHORTEST_KEY and _SECRET_NAME.search(name) is not None:
            return self.secret(text)
        if "\\u" in text and (decoded := _decoded(text)) is not None:
            return self._as_json(decoded)
        return self.text(text)

    def number(self, name: str, number: int) -> int | str:
        """Return a number: a card or a phone number may come as one. Times and seeds stay."""
        if _PLAIN_NUMBER.search(name) or (len(str(abs(number))) < _FEWEST_DIGITS and not self._words):
            return number
        redacted = self.text(str(number))
        return int(redacted) if redacted.lstrip("-").isdigit() else redacted

    def data(self, data: Any, name: str = "") -> Any:
        """Return JSON data with stand-ins in all its texts, names and long numbers. `name`: of the field."""
        if isinstance(data, str):
            return self.value(name, data)
        if isinstance(data, Mapping):
            return {self.name(str(one)): self.data(value, str(one)) for one, value in data.items()}
        if isinstance(data, Iterable) and not isinstance(data, bytes | bytearray):
            return [self.data(value, name) for value in data]
        return self.number(name, data) if isinstance(data, int) and not isinstance(data, bool) else data

    def _as_json(self, decoded: Any) -> str:
        return orjson.dumps(self.data(decoded)).decode()


@lru_cache(4096)
def _is_plain(name: str) -> bool:
    """Return whether the name of a field holds no private value. The same names come again and again."""
    return not private_values(name)


def _decoded(text: str) -> Any:
    """Return the JSON data in a text, or None. In JSON a character can be written in several ways."""
    if text[:1] not in '{["':
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def new_key() -> bytes:
    """Return a new key for stand-ins."""
    return secrets.token_bytes(32)
