"""Finds private values in a text: cards, identity numbers, phone numbers, e-mail addresses, keys, and given words."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from dialgraph.language.guard import find_cards, find_identity_numbers, find_phone_numbers, find_words, plain_text

Kind = Literal["card", "identity", "phone", "email", "key", "word"]
Words = Callable[[str], Iterable[tuple[int, int]]]
"""Returns the places of an author's private words in a text."""

_EMAIL = re.compile(r"[\w.+%-]{1,64}(?:@|%40)[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.[^\W\d_]{2,24}(?![\w-])")
_ANNOUNCED = re.compile(
    r"(?i)(?<![a-z])(?:(?:bearer|basic)\s+|(?:api[_-]?key|authorization|token|secret|password)(?P<sign>[\"':=]*\s*[:=]?[\s\"']*)"
    r"(?:(?:bearer|basic)\s+)?)(?P<value>[^\s\"',}]{6,300})"
)
"""A word that announces a key, and what follows it. What follows is looked at in `_is_key`."""
_ISSUED = re.compile(
    r"\b(?:sk|pk|rk|dg|dr|gsk|xai|ghp|gho|hf|xox[bp]|glpat|github_pat)[-_](?P<value>[A-Za-z0-9_.-]{8,300})"
    r"|\b(?P<id>(?:AKIA|ASIA|AIza)[A-Za-z0-9_-]{12,100})|\bSG\.(?P<grid>[\w-]{8,100}\.[\w-]{8,100})"
    r"|(?P<token>\beyJ[\w-]{4,300}\.[\w-]{1,2000}\.[\w-]{0,1000})|://[^/\s:@]{1,100}:(?P<url>[^@\s/]{1,100})@"
)
"""Keys and tokens by the prefixes of their issuers, and passwords in URLs. Every length is limited: see `make soak`."""
_SECRET = re.compile(r"[A-Za-z0-9_.~+/=-]{12,}")
_DIGIT_OR_AT = re.compile(r"[@＠\d]")
_ISSUER = re.compile(r"(?:sk|pk|rk|dg|dr|gsk|xai|gh[op]|hf|xox[bp]|glpat|github_pat)[-_]")
_SIGNS = (
    "%40", "akia", "asia", "aiza", "sg.", "eyj", "://",
    "bearer", "basic", "key", "authorization", "token", "secret", "password",
)  # fmt: skip
"""Without one of these, an issuer, a digit or an @, a text has no private value but words. Most texts have none."""
_MORE_PHONES = re.compile(
    r"(?<![\d.])(?:\+\d[\d ()./-]{6,20}\d|00\d{8,13}|0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,5}|\d{3}\.\d{3}\.\d{4}"
    r"|\(\d{3}\) ?\d{3}[ -]\d{4}|0\d(?: \d\d){4}|1[3-9]\d \d{3} \d{5}|010 \d{8}|(?<=tel:)\d{7,15}|\d{12,13})(?![\d])"
)
"""Ways of writing phone numbers in addition to those that the guard finds."""
_SPACED_IDENTITY = re.compile(r"(?<![\d-])\d{3} \d{2} \d{4}(?![\d-])")
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
    if not words and not _may_be_private(text):
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


def _may_be_private(text: str) -> bool:
    """Return whether a text may have a private value. It costs a tenth of looking for each kind."""
    if _DIGIT_OR_AT.search(text) is not None:
        return True
    if ("-" in text or "_" in text) and _ISSUER.search(text) is not None:
        return True
    return any(map(text.casefold().__contains__, _SIGNS))


def _found(text: str, words: Iterable[Words]) -> Iterator[Found]:
    plain, origin = plain_text(text)

    def placed(places: Iterable[tuple[int, int]], kind: Kind) -> Iterator[Found]:
        return (Found(origin[start], origin[end - 1] + 1, kind) for start, end in places if end > start)

    yield from (Found(*match.span(), "email") for match in _EMAIL.finditer(text))
    if plain != text:
        yield from placed((match.span() for match in _EMAIL.finditer(plain)), "email")
    for match in _ANNOUNCED.finditer(text):
        if _is_key(match["value"], match["sign"] or ""):
            yield Found(*match.span("value"), "key")
    yield from (Found(*match.span(match.lastgroup or 0), "key") for match in _ISSUED.finditer(text))
    if _MAY_HOLD_DIGITS.search(plain):
        yield from placed(find_cards(plain), "card")
        yield from placed(find_identity_numbers(plain), "identity")
        yield from placed((match.span() for match in _SPACED_IDENTITY.finditer(plain)), "identity")
        yield from placed(find_phone_numbers(plain), "phone")
        yield from placed((match.span() for match in _MORE_PHONES.finditer(plain)), "phone")
    for find in words:
        yield from placed(find(plain), "word")


def _is_key(value: str, sign: str) -> bool:
    """Return whether what follows a word such as `token` is a key, and not the next word of a sentence."""
    assigned = ":" in sign or "=" in sign
    return (
        any(one.isdigit() for one in value)
        if assigned and len(value) < 12
        else bool((assigned or any(one.isdigit() for one in value)) and _SECRET.fullmatch(value))
    )


def words_finder(words: Iterable[str]) -> Words:
    """Return a finder of these words. It ignores case, and finds Latin words whole, Chinese ones anywhere."""
    given = [plain for word in words if (plain := plain_text(word)[0].strip())]
    return find_words(given) if given else no_words
