"""Splits text into the units that search compares: lower-case English words, Chinese pairs and characters."""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNIT = re.compile(rf"[{HAN}]+|[^\W_{HAN}]+(?:['’][^\W_{HAN}]+)*")
HAN_CHARACTER = re.compile(rf"[{HAN}]")
FIRST_HAN = "\u3400"
_WEEKDAY = re.compile("(?:周|礼拜|星期)([一二三四五六日天])")
_LETTER = re.compile(rf"[^\W\d_{HAN}]")

# Words with grammar and no content. The list is short on purpose: a missing word costs little, a wrong one a passage.
_STOP_WORDS = frozenset(
    """a an and are as at be been but by can could d did do does for from had has have how i if in is it its ll m
    may me my of on or our re s shall should so t than that the their them then there these they this those to
    us ve was we were what when where which who whom whose why will with would you your""".split()
)
_STOP_CHARACTERS = frozenset(
    "的了吗呢吧啊是在有和与及或也都就而被把从到对为以于之其这那哪什么谁几多少怎样如何个可能要请问我你您他她它们不没"
)


Said = TypeVar("Said")


LONGEST_LOOK = 4_000
"""How many characters at the beginning of a text decide its language."""


def is_chinese(text: str) -> bool:
    """Return whether the speaker expects an answer in Chinese: Chinese characters outweigh Latin words."""
    text = text[:LONGEST_LOOK]
    han = len(HAN_CHARACTER.findall(text))
    return han > 0 and han * 2 >= len(_LETTER.findall(text)) / 2


def in_language(said: Said | Mapping[str, Said], heard: str) -> Said:
    """Return the text for a person who speaks these words. `said`: one text, or one per language (`en`, `zh`)."""
    if not isinstance(said, Mapping):
        return said
    language = "zh" if is_chinese(heard) else "en"
    return said[language] if language in said else next(iter(said.values()))


def words(text: str) -> list[str]:
    """Return the text's units. A run of Chinese gives its overlapping pairs, then its characters but stop characters.

    Pairs need no dictionary and find two-character words, which trigram indexes cannot. Single characters find words
    that the question combines in another way ("带狗", "猫和狗").
    """
    units: list[str] = []
    for run in _UNIT.findall((text if text.isascii() else _plain(text)).lower()):
        if run[0] < FIRST_HAN or not HAN_CHARACTER.match(run):
            units.append(_word(run))
        elif len(run) == 1:
            units.append(run)
        else:
            units += [run[at : at + 2] for at in range(len(run) - 1)]
            units += [character for character in run if character not in _STOP_CHARACTERS]
    return units


@lru_cache(maxsize=65_536)
def is_stop_word(unit: str) -> bool:
    """Return whether the unit says nothing about the content of a text."""
    return unit in _STOP_UNITS or all(character in _STOP_CHARACTERS for character in unit)


def _plain(text: str) -> str:
    """Return the text with one form for each character, and one name for each day of the week."""
    return _WEEKDAY.sub(
        lambda day: "星期" + ("天" if day.group(1) == "日" else day.group(1)), unicodedata.normalize("NFKC", text)
    )


@lru_cache(maxsize=65_536)
def _word(run: str) -> str:
    """Return the unit of a run of Latin letters and digits."""
    return _stem(run.replace("’", "'").removesuffix("'s"))


def _stem(word: str) -> str:
    """Return the word without its most common endings, so that "rooms" finds "room" and "closes" finds "closed".

    This does far less than a stemmer: it may join forms of one word, but never two words.
    """
    if len(word) > 4:
        for ending, rest in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
            if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 3:
                stem = word[: -len(ending)] + rest
                # "stopped" → "stop", "closed" and "close" → "clos"
                return stem[:-1] if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "ls" else stem
        return word[:-1] if word.endswith("e") else word
    return word[:-1] if len(word) == 4 and word.endswith("s") and not word.endswith("ss") else word


_STOP_UNITS = _STOP_WORDS | frozenset(map(_stem, _STOP_WORDS))
