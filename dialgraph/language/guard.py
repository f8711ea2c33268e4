"""Finds text that must not be said, sentence by sentence before it is spoken; masks, replaces or drops it. Pure."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dialgraph.language.sentences import place_to_cut, sentences
from dialgraph.language.words import HAN, in_language

LONGEST_CHARACTERS = 300
"""The longest sentence. Text without an end is checked in pieces, so that the caller does not wait for all of it."""

Find = Callable[[str], Iterable[tuple[int, int]]]
"""Returns the places in a sentence that must not be said, as start and end."""
Check = Callable[[str], str | None]
"""An author's own check: takes a sentence and returns the sentence to speak, or None to drop it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A search in sentences, and the action for its matches."""

    find: Find
    action: Literal["mask", "replace", "block"]
    instead: str | Mapping[str, str]
    """The replacement for the found text: one text, or one for each language. For `block`: what to say if nothing else
    is said."""


_END_MARK = re.compile(r"[.!?。！？；…\n]")


class Guard:
    """Checks one answer on its way to a caller. It holds each sentence back until it is whole."""

    def __init__(
        self,
        rules: Sequence[Rule | Check],
        fallback: str | Mapping[str, str] = "",
        found: Callable[[int], None] = lambda at: None,
    ) -> None:
        """`fallback`: what to say if a check has dropped everything: one text, or one for each language. `found` is
        called with the place of a rule in the list, when the rule has changed a sentence.
        """
        self._rules = rules
        self._found = found
        self._fallback = fallback
        self._held = ""
        self._may_end = False
        self._said = False
        self._owed = ""
        """What to say at the end of the turn, because sentences were dropped, if nothing else is said."""

    def push(self, text: str) -> str:
        """Return the sentences that are now whole, as they may be said."""
        self._held += text
        self._may_end = self._may_end or _END_MARK.search(text) is not None
        if not self._may_end and len(self._held) <= LONGEST_CHARACTERS:
            return ""
        *whole, self._held = sentences(self._held) or [""]
        self._may_end = _END_MARK.search(self._held) is not None
        if cut := place_to_cut(self._held, LONGEST_CHARACTERS):
            whole, self._held = [*whole, self._held[:cut]], self._held[cut:]
        return "".join(map(self._allowed, whole))

    def flush(self) -> str:
        """Return the rest, at the end of the answer."""
        held, self._held = self._held, ""
        return self._allowed(held) if held else ""

    def end(self) -> str:
        """Return the rest, at the end of the turn. If sentences were dropped and nothing was said, say so."""
        rest = self.flush()
        if not self._said and self._owed:
            rest, self._said = self._owed + rest, True
        return rest

    def _allowed(self, sentence: str) -> str:
        whole = sentence
        for at, rule in enumerate(self._rules):
            before = sentence
            sentence = _applied(rule, sentence) if isinstance(rule, Rule) else rule(sentence) or ""
            if sentence != before:
                self._found(at)
            if not sentence:
                instead = rule.instead if isinstance(rule, Rule) else self._fallback
                self._owed = self._owed or in_language(instead, whole)
                break
        self._said = self._said or bool(sentence.strip())
        return sentence


def _applied(rule: Rule, sentence: str) -> str:
    plain, origin = plain_text(sentence)
    places = [(origin[start], origin[stop - 1] + 1) for start, stop in rule.find(plain)]
    if not places:
        return sentence
    end = sentence[len(sentence.rstrip()) :]
    if rule.action == "block":
        return ""
    if rule.action == "replace":
        return in_language(rule.instead, sentence) + end
    instead = in_language(rule.instead, sentence)
    for start, stop in sorted(places, reverse=True):
        sentence = sentence[:start] + instead + sentence[stop:]
    return sentence


def plain_text(sentence: str) -> tuple[str, Sequence[int]]:
    """Return the sentence as it sounds, and the original position of each of its characters.

    Models write dashes and spaces of many kinds, full-width digits and marks inside words; none of them can be heard.
    """
    if sentence.isascii() and not any(mark in sentence for mark in _UNHEARD):
        return sentence, range(len(sentence))
    plain: list[str] = []
    origin: list[int] = []
    for at, character in enumerate(sentence):
        for one in unicodedata.normalize("NFKC", character):
            category = unicodedata.category(one)
            if one in _UNHEARD or category == "Cf":
                continue
            plain.append("-" if category == "Pd" or one == "\u2212" else " " if one.isspace() else one)
            origin.append(at)
    return "".join(plain), origin


_UNHEARD = "*_`~"
_CARD = re.compile(r"(?<!\d)(?:\d(?:[ -]{0,3}\d){12,18}|\d{4}(?:[ ,.-]{1,3}\d{4}){3})(?!\d)")
_CARD_RUN = re.compile(r"(?<!\d)\d(?:[\s,./+-]{0,3}\d){12,}(?!\d)")
_GROUP = re.compile(r"\d+")
_CHINESE_IDENTITY = re.compile(r"(?<!\d)\d(?:[ -]?\d){16}[ -]?[\dXx](?!\d)")
_US_IDENTITY = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_PHONE = re.compile(
    r"(?<![\d.])(?:\+\d[\d ()-]{6,18}\d|1[3-9]\d(?:[ -]?\d{4}){2}|\(?\d{3}\)?[ -]\d{3}[ -]\d{4}|0\d{2,3}-\d{7,8}"
    r"|[48]00-\d{3}-\d{4}|\d{10,11})(?!\d)"
)
_DIGITS = re.compile(r"\d(?:[ ,.-]{0,3}\d){6}")
"""Without seven digits near each other, a sentence has no number of these kinds, so the search is skipped."""
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def find_cards(sentence: str) -> list[tuple[int, int]]:
    """Return the places of payment cards: 13 to 19 digits with a correct Luhn checksum."""
    if not _DIGITS.search(sentence):
        return []
    found = [match.span() for match in _CARD.finditer(sentence) if luhn_is_right(match.group())]
    for run in _CARD_RUN.finditer(sentence):
        if not any(start < run.end() and run.start() < end for start, end in found):
            found += _cards_in(sentence, run)
    return found


def _cards_in(sentence: str, run: "re.Match[str]") -> Iterator[tuple[int, int]]:
    """Yield the cards in groups of digits that begin before or go on after a card, such as its expiry."""
    groups = [match.span() for match in _GROUP.finditer(sentence, run.start(), run.end())]
    at = 0
    while at < len(groups):
        for last in range(min(at + 4, len(groups)), at, -1):
            sizes = [end - start for start, end in groups[at:last]]
            shaped = len(sizes) == 1 or sizes[:-1] == [4] * (len(sizes) - 1) or sizes[:2] == [4, 6]
            start, end = groups[at][0], groups[last - 1][1]
            if shaped and 13 <= sum(sizes) <= 19 and luhn_is_right(sentence[start:end]):
                yield start, end
                at = last - 1
                break
        at += 1


def find_identity_numbers(sentence: str) -> list[tuple[int, int]]:
    """Return the places of Chinese resident identity numbers with a correct check digit (GB 11643), and of US social
    security numbers.
    """
    found = [
        match.span() for match in _CHINESE_IDENTITY.finditer(sentence) if _gb11643(re.sub("[ -]", "", match.group()))
    ]
    return found + [match.span() for match in _US_IDENTITY.finditer(sentence)]


def find_phone_numbers(sentence: str) -> list[tuple[int, int]]:
    """Return the places of international numbers, Chinese mobile and landline numbers, and ten digits with or without
    groups.
    """
    if not _DIGITS.search(sentence):
        return []
    return [match.span() for match in _PHONE.finditer(sentence)]


def find_words(words: Iterable[str]) -> Find:
    """Return a function that finds these words. It ignores case, and finds Latin words whole, Chinese ones anywhere."""
    listed = sorted((re.escape(word) for word in words if word), key=len, reverse=True)
    edges = rf"(?<![^\W_{HAN}])(?:%s)(?![^\W_{HAN}])"
    latin = [word for word in listed if not re.search(f"[{HAN}]", word)]
    other = [word for word in listed if word not in latin]
    parts = [edges % "|".join(latin)] * bool(latin) + other
    pattern = re.compile("|".join(parts), re.IGNORECASE)
    return lambda sentence: [match.span() for match in pattern.finditer(sentence)] if parts else []


def luhn_is_right(text: str) -> bool:
    """Return whether the checksum of a card number is right (ISO/IEC 7812-1)."""
    digits = [int(one) for one in text if one.isdigit()]
    doubled = [sum(divmod(2 * one, 10)) for one in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def identity_check_digit(text: str) -> str:
    """Return the last digit of a Chinese identity number, from the 17 before it (GB 11643)."""
    return "10X98765432"[sum(int(digit) * weight for digit, weight in zip(text[:17], _WEIGHTS, strict=True)) % 11]


def _gb11643(text: str) -> bool:
    return identity_check_digit(text) == text[17].upper()
