"""Finds private values in a text: cards, identity numbers, phone numbers, e-mail addresses, keys, and given words."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from dialgraph.language.guard import find_cards, find_identity_numbers, find_phone_numbers, find_words, plain_text

Kind = Literal["card", "identity", "phone", "email", "key", "word"]
Words = Callable[[str], Iterable[tuple[int, int]]]
"""Returns the places of an author's private words in a text."""

_EMAIL = re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_ANNOUNCED = re.compile(
    r"(?i)(?:(?:bearer|basic)\s+|(?:api[_-]?key|authorization|token|secret|password)[\"'=:\s]+(?:(?:bearer|basic)\s+)?)"
    r"(?P<value>(?=[^\s\"',}]*\d)[^\s\"',}]{6,})"
)
_ISSUED = re.compile(
    r"\b(?:sk|pk|rk|dg|dr|gsk|xai|ghp|gho)[-_](?P<value>[A-Za-z0-9_.-]{8,})|\b(?P<id>(?:AKIA|ASIA)[A-Z0-9]{12,})"
    r"|(?P<token>\beyJ[\w-]{4,}\.[\w-]+\.[\w-]*)"
)
"""Keys and tokens: after a word that announces one, or by the prefixes of their issuers."""
_ANNOUNCING = ("bearer", "basic", "key", "authorization", "token", "secret", "password")
_ISSUERS = (
    "sk-",
    "sk_",
    "pk-",
    "pk_",
    "rk-",
    "rk_",
    "dg_",
    "dg-",
    "dr_",
    "dr-",
    "gsk_",
    "xai-",
    "gh",
    "AKIA",
    "ASIA",
    "eyJ",
)
"""Without one of these a text has no key. Looking for them costs a tenth of the search."""
_MAY_BE_PRIVATE = re.compile(r"[@\d]|(?:sk|pk|rk|dg|dr|gsk|xai|gh[op])[-_]|AKIA|ASIA|eyJ")
"""Without one of these a text has no private value but words. Most texts have none, and this search is the cheapest."""
_MAY_HOLD_DIGITS = re.compile(r"\d\D{0,3}\d\D{0,3}\d\D{0,3}\d\D{0,3}\d\D{0,3}\d\D{0,3}\d")
"""Without seven digits near each other there is no number of these kinds."""


@dataclass(frozen=True, slots=True)
class Found:
    """One private value: its place in the text, and its kind."""

    start: int
    end: int
    kind: Kind


def no_words(text: str) -> Iterable[tuple[int, int]]:
    """Find no words: the author has named none."""
    return ()


def private_values(text: str, *words: Words) -> list[Found]:
    """Return the private values of a text in their order. They do not overlap."""
    if not words and not _MAY_BE_PRIVATE.search(text):
        return []
    found = list(_found(text, words))
    found.sort(key=lambda one: (one.start, -one.end))
    kept: list[Found] = []
    for one in found:
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
        elif one.end > kept[-1].end:
            kept[-1] = Found(kept[-1].start, one.end, kept[-1].kind)
    return kept


def _found(text: str, words: Iterable[Words]) -> Iterator[Found]:
    plain, origin = plain_text(text)

    def placed(places: Iterable[tuple[int, int]], kind: Kind) -> Iterator[Found]:
        return (Found(origin[start], origin[end - 1] + 1, kind) for start, end in places if end > start)

    if "@" in text:
        yield from (Found(*match.span(), "email") for match in _EMAIL.finditer(text))
    lower = text.lower()
    if any(word in lower for word in _ANNOUNCING):
        yield from (Found(*match.span("value"), "key") for match in _ANNOUNCED.finditer(text))
    if any(issuer in text for issuer in _ISSUERS):
        yield from (Found(*match.span(match.lastgroup or 0), "key") for match in _ISSUED.finditer(text))
    if _MAY_HOLD_DIGITS.search(plain):
        yield from placed(find_cards(plain), "card")
        yield from placed(find_identity_numbers(plain), "identity")
        yield from placed(find_phone_numbers(plain), "phone")
    for find in words:
        yield from placed(find(plain), "word")


def words_finder(words: Iterable[str]) -> Words:
    """Return a finder of these words. It ignores case, and finds Latin words whole, Chinese ones anywhere."""
    given = [word for word in words if word.strip()]
    return find_words(given) if given else no_words
