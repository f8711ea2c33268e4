"""Splits text into sentences, in English and Chinese, without losing a character."""

import re

_ABBREVIATIONS = frozenset(
    """mr mrs ms dr prof sr jr st mt vs etc e.g i.e a.m p.m al inc ltd co corp dept est approx jan
    feb mar apr jun jul aug sep sept oct nov dec gen col capt lt sgt rev hon u.s u.k u.n d.c ph.d""".split()
)
# A Chinese mark ends a sentence anywhere; a Latin one only before white space or at the end of the text.
# A run of marks is checked only from its beginning. Otherwise a long run would take quadratic time.
_END = re.compile(
    r"""(?<![。！？；…])[。！？；…]++[”’」』）)"']*+\s*+|(?<![.!?])[.!?]++[”’")\]]*+(?:\s++|$)|(?<!\n)\n++"""
)
# These may also be the last word of a sentence: a capital letter after them begins the next one.
_OFTEN_LAST = frozenset("""a.m p.m etc inc ltd co corp u.s u.k u.n d.c""".split())
_BEFORE_A_NUMBER = frozenset("no nos vol fig p pp".split())
_LONGEST_WORD = 24
_SPACE = re.compile(r"\s+")
_NUMBER_SIGN = re.compile(r"[\d$€£¥￥%+]")
_LAST_WORD = re.compile(r"[\w.]+$")


def sentences(text: str) -> list[str]:
    """Return the text cut after each sentence. The parts joined are the text."""
    parts: list[str] = []
    start = 0
    for match in _END.finditer(text):
        if _ends_a_sentence(text, start, match):
            parts.append(text[start : match.end()])
            start = match.end()
    if start < len(text):
        parts.append(text[start:])
    return parts


def _ends_a_sentence(text: str, start: int, end: re.Match[str]) -> bool:
    if not end.group().startswith(".") or end.group().startswith(".."):
        return True
    last = _LAST_WORD.search(text, max(start, end.start() - _LONGEST_WORD), end.start())
    word = last.group().lower() if last else ""
    following = text[end.end() : end.end() + 1]
    # "Dr. Chen", "J. Smith", and a full stop before a lower-case letter do not end a sentence.
    if word in _OFTEN_LAST:
        return following.isupper() or not following
    if word in _BEFORE_A_NUMBER:
        return not following.isdigit()
    initial = len(word) == 1 and word.isalpha() and word != "i"
    return not following or not (word in _ABBREVIATIONS or initial or following.islower())


def may_go_on(text: str) -> bool:
    """Return whether the text ends with a word that often has a full stop, such as "a.m." or "U.S."."""
    last = _LAST_WORD.search(text.rstrip("."))
    return last is not None and last.group().lower() in _OFTEN_LAST | _ABBREVIATIONS


def place_to_cut(text: str, longest: int) -> int:
    """Return where to cut a text that is too long: at white space with no number next to it; 0: nowhere yet.

    If a text of twice the length has no such place, cut it at its last space, or anywhere.
    """
    if len(text) <= longest:
        return 0
    for space in reversed(list(_SPACE.finditer(text, 0, longest))):
        if not _NUMBER_SIGN.search(text[max(space.start() - 3, 0) : space.end() + 3]):
            return space.end()
    if len(text) <= 2 * longest:
        return 0
    return text.rfind(" ", 0, longest) + 1 or longest
