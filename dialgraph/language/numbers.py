"""Turns prices, measures, dates, times and phone numbers into the words that a voice says. Needs the extra `numbers`.

Only forms with one reading are rewritten, and a span that a library refuses stays unchanged: a wrong number misleads a
caller, a digit does not. Whole-sentence normalisers (wetext, WeTextProcessing, NeMo) were tested, and each one spoke
wrong amounts or dates in ordinary sentences (docs/decisions). English words come from inflect, Chinese ones from
cn2an, phone numbers from phonenumbers.
"""

import re
from collections.abc import Callable
from datetime import date
from functools import partial

import cn2an
import inflect
import phonenumbers

from dialgraph.language.sentences import place_to_cut, sentences
from dialgraph.language.words import is_chinese

LONGEST_CHARACTERS = 300
"""The longest sentence that is held back until its numbers can be read."""
_CONTEXT_CHARACTERS = 24
_FIRST_SIGN = re.compile(r"[\d$€£¥￥+]|-$")

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,12})(?:\.\d{1,4})?"
_LEFT = r"(?<![A-Za-z0-9.,/:$€£¥￥%+\-–~])"
_RIGHT = r"(?![\d%]|[.,:/\-–~]\d|[A-Za-z]|\s?[-–~]\s?[$€£¥￥])"
_DIGITS_EN = dict(zip("0123456789", "zero one two three four five six seven eight nine".split(), strict=True))
_DIGITS_ZH = dict(zip("0123456789", "零幺二三四五六七八九", strict=True))
_MONEY_EN = {"$": ("dollar", "cent", "cents"), "€": ("euro", "cent", "cents"), "£": ("pound", "penny", "pence")}
_MONEY_ZH = {"$": "美元", "€": "欧元", "£": "英镑", "¥": "元", "￥": "元"}
_UNITS_EN = {"km/h": "kilometers per hour", "km": "kilometers", "kg": "kilograms"}
_UNITS_ZH = {"km/h": "公里每小时", "km": "公里", "kg": "公斤"}
_DEGREES = {"C": ("degrees Celsius", "摄氏度"), "F": ("degrees Fahrenheit", "华氏度")}

_DATE = re.compile(rf"{_LEFT}(?P<year>(?:19|20)\d\d)-(?P<month>\d{{1,2}})-(?P<day>\d{{1,2}}){_RIGHT}")
_TIME = re.compile(rf"{_LEFT}(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?![\d:]|\s?[ap]\.?m|[-–~]\d)", re.I)
_MONEY = re.compile(
    rf"{_LEFT}(?P<sign>[$€£¥￥])(?P<number>{_NUMBER})(?:\s(?P<scale>thousand|million|billion)\b)?{_RIGHT}(?!\s?[万亿千百])"
)
_PERCENT = re.compile(rf"{_LEFT}(?P<number>{_NUMBER})\s?%(?!\s?[-–~]\s?\d)")
_DEGREE = re.compile(rf"{_LEFT}(?P<number>-?{_NUMBER})\s?(?:°(?P<unit>[CF])|(?P<sign>℃))(?![A-Za-z])")
_UNIT = re.compile(rf"{_LEFT}(?P<number>{_NUMBER})\s?(?P<unit>km/h|km|kg)(?![A-Za-z/])")

Rewrite = Callable[[re.Match[str]], str]


class NumberReader:
    """Reads whole sentences. Create it once: inflect takes a second to load."""

    def __init__(self) -> None:
        self._english = inflect.engine()

    def read(self, sentence: str) -> str:
        """Return the sentence with its numbers as words, in its own language."""
        chinese = is_chinese(sentence)
        sentence = self._phones(sentence, chinese=chinese)
        for pattern, rewrite in self._rules(chinese=chinese):
            sentence = pattern.sub(partial(_or_unchanged, rewrite), sentence)
        return sentence

    def _rules(self, *, chinese: bool) -> list[tuple[re.Pattern[str], Rewrite]]:
        if chinese:
            return [
                (_DATE, _date_zh), (_TIME, _time_zh), (_MONEY, _money_zh),
                (_PERCENT, lambda match: f"百分之{_zh(match['number'])}"),
                (_DEGREE, lambda match: _zh(match["number"]) + _DEGREES[match["unit"] or "C"][1]),
                (_UNIT, lambda match: _zh(match["number"]) + _UNITS_ZH[match["unit"]]),
            ]  # fmt: skip
        return [
            (_DATE, _date_en), (_MONEY, self._money_en),
            (_PERCENT, lambda match: f"{self._en(match['number'])} percent"),
            (_DEGREE, lambda match: f"{self._en(match['number'])} {_DEGREES[match['unit'] or 'C'][0]}"),
            (_UNIT, lambda match: f"{self._en(match['number'])} {_UNITS_EN[match['unit']]}"),
        ]  # fmt: skip

    def _en(self, number: str) -> str:
        _refuse_leading_zero(number)
        minus = "minus " if number.startswith("-") else ""
        words = self._english.number_to_words(number.lstrip("-").replace(",", ""), andword="", comma="")
        return minus + " ".join(str(words).replace("-", " ").split())

    def _money_en(self, match: re.Match[str]) -> str:
        main, minor, minors = _MONEY_EN[match["sign"]]
        if match["scale"]:
            return f"{self._en(match['number'])} {match['scale']} {main}s"
        whole, _, part = match["number"].partition(".")
        if part and len(part) != 2:
            raise ValueError("not an amount of money")
        words = f"{self._en(whole)} {main}{'' if whole == '1' else 's'}"
        if not part or part == "00":
            return words
        return f"{words} and {self._en(str(int(part)))} {minor if part == '01' else minors}"

    def _phones(self, sentence: str, *, chinese: bool) -> str:
        words: list[str] = []
        at = 0
        for match in phonenumbers.PhoneNumberMatcher(sentence, "CN" if chinese else None):
            number = match.raw_string
            if number.startswith("+"):
                number = phonenumbers.format_number(match.number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
            plus = ("加" if chinese else "plus ") if number.startswith("+") else ""
            groups = re.findall(r"\d+", number)
            if chinese:
                said = "，".join("".join(_DIGITS_ZH[digit] for digit in group) for group in groups)
            else:
                said = ", ".join(" ".join(_DIGITS_EN[digit] for digit in group) for group in groups)
            words += [sentence[at : match.start], plus, said]
            at = match.end
        return "".join([*words, sentence[at:]])


class Numbers:
    """Reads one answer on its way to a voice. A sentence is held back from its first digit to its end."""

    def __init__(self, reader: NumberReader) -> None:
        self._reader = reader
        self._held = ""
        self._said = ""

    def push(self, text: str) -> str:
        """Return what can be said now. Text without digits passes immediately."""
        if not self._held and not _FIRST_SIGN.search(text):
            return self._remember(text)
        *whole, self._held = sentences(self._held + text) or [""]
        if not _FIRST_SIGN.search(self._held):
            whole, self._held = [*whole, self._held], ""
        elif cut := place_to_cut(self._held, LONGEST_CHARACTERS):
            whole, self._held = [*whole, self._held[:cut]], self._held[cut:]
        return "".join(map(self._read, whole))

    def flush(self) -> str:
        """Return the rest, at the end of the answer."""
        held, self._held = self._held, ""
        return self._read(held) if held else ""

    end = flush

    def _read(self, sentence: str) -> str:
        """Read the sentence together with the text before it, which decides whether a digit begins a number."""
        before = self._context()
        read = self._reader.read(before + sentence)
        words = read[len(before) :] if read.startswith(before) else sentence
        self._remember(sentence)
        return words

    def _remember(self, text: str) -> str:
        self._said = (self._said + text)[-_CONTEXT_CHARACTERS:]
        return text

    def _context(self) -> str:
        """Return the text before the next number, without earlier sentences and numbers already read."""
        *_, said = sentences(self._said) or [""]
        if _FIRST_SIGN.search(said):
            return said[-1:] if not said[-1:].isspace() else ""
        return said


def _or_unchanged(rewrite: Rewrite, match: re.Match[str]) -> str:
    try:
        return rewrite(match)
    except (ValueError, KeyError, inflect.BadNumValueError, inflect.NumOutOfRangeError):
        return match.group()


def _refuse_leading_zero(number: str) -> None:
    if re.match(r"-?0\d", number):
        raise ValueError("a code, not a number")


def _zh(number: str) -> str:
    _refuse_leading_zero(number)
    minus = "负" if number.startswith("-") else ""
    return minus + str(cn2an.an2cn(number.lstrip("-").replace(",", ""), "low"))


def _money_zh(match: re.Match[str]) -> str:
    if match["scale"]:
        raise ValueError("an English scale word in a Chinese sentence")
    return _zh(match["number"]) + _MONEY_ZH[match["sign"]]


def _date_en(match: re.Match[str]) -> str:
    day = date(int(match["year"]), int(match["month"]), int(match["day"]))
    return f"{day:%B} {day.day}, {day.year}"


def _date_zh(match: re.Match[str]) -> str:
    day = date(int(match["year"]), int(match["month"]), int(match["day"]))
    year = cn2an.an2cn(str(day.year), "direct")
    return f"{year}年{cn2an.an2cn(str(day.month))}月{cn2an.an2cn(str(day.day))}日"


def _time_zh(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"])
    said = "两" if hour == 2 else cn2an.an2cn(str(hour))
    if minute == 0:
        return f"{said}点"
    return f"{said}点{'零' if minute < 10 else ''}{cn2an.an2cn(str(minute))}分"
