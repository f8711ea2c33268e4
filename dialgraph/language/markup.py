"""Turns streamed Markdown into text that a voice can read: no Markdown, code, emoji or addresses. Pure.

The text may be split anywhere, even inside a mark; the result is the same. Plain text passes immediately: only a mark
with a meaning that is not yet known is held back, and nothing before it.
"""

import html
import re

_EMOJI = "\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u20e3\u200d\U000e0020-\U000e007f"
_MARKS = rf"`*_~\[<&\\\n【{_EMOJI}"
_MAY_NEED_CARE = re.compile(rf"[{_MARKS}]|https?:|www\.|(?<![A-Za-z0-9])(?:h|ht|htt|https?|ww?w?)$", re.IGNORECASE)
_PLAIN = re.compile(rf"[^{_MARKS}hHwW]+")
_EMOJIS = re.compile(rf"[{_EMOJI}]+")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"'，。！？；、（）「」\u4e00-\u9fff]*", re.IGNORECASE)
_URL_STARTS = ("http://", "https://", "www.")
_RULE = re.compile(r"(?:-{3,}|\*{3,}|_{3,}|={3,})[ \t]*(?=\n|$)")
_TABLE_RULE = re.compile(r"[\s:|-]*-[\s:|-]*")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|\w{2,20});")
_TAG = re.compile(r"<(/?)([A-Za-z][\w:.-]{0,60}(?:\s+[\w:.@-]+\s*=[^<>]{0,200})?\s*/?|[|!?][^<>]{0,200})>")
"""`<b>`, `<a href="x">`, `<|mark|>`; not `a<b and c>d`."""
_LONGEST_RUN = 80  # marks in a row
_LONGEST_LINK = 600
_LONGEST_TAG = 200
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")

Step = tuple[int, str]
"""How far the text was read, and what is spoken of it."""


class Markup:
    """Filters one answer on its way to a voice."""

    def __init__(self, turn_markers: str = "") -> None:
        """`turn_markers`: characters at the beginning of the answer that are marks for the host."""
        self._turn_markers = turn_markers
        self._held = ""
        self._line_begins = True
        self._last = "\n"
        """The last character that was spoken."""
        self._read_last = "\n"
        """The last character that was read, spoken or not."""
        self._dropped = False
        """Whether something was just removed. Then a space after it is one too many."""
        self._in_fence = False

    def push(self, text: str) -> str:
        """Return what can be spoken now, of this text and of the text held back before."""
        if self._turn_markers and (begin := text.lstrip()):
            markers, self._turn_markers = self._turn_markers, ""
            if begin[0] in markers:
                self._last, self._line_begins = begin[0], False
                return begin[0] + self.push(begin[1:])
        if self._held or self._line_begins or self._in_fence or self._dropped or _MAY_NEED_CARE.search(text):
            return self._read(self._held + text, final=False)
        if text:
            self._last = self._read_last = text[-1]
        return text

    def flush(self) -> str:
        """Return the rest, at the end of the answer."""
        return self._read(self._held, final=True)

    def _read(self, text: str, *, final: bool) -> str:
        spoken: list[str] = []
        at = 0
        while at < len(text):
            step = self._step(text, at, final=final)
            if step is None:
                break
            at, piece = step
            if self._dropped and self._last in " \n":
                piece = piece.lstrip(" ")
            if piece:
                self._last = piece[-1]
                self._dropped = False
                spoken.append(piece)
            else:
                self._dropped = True
        if at:
            self._read_last = text[at - 1]
        self._held = text[at:]
        return "".join(spoken)

    def _step(self, text: str, at: int, *, final: bool) -> Step | None:
        """Read one step further. Return None if more text is needed."""
        if self._in_fence:
            return self._skip(text, at, final=final)
        mark = text[at]
        if mark == "\n":
            self._line_begins = True
            return at + 1, "" if self._last == "\n" else "\n"
        if self._line_begins:
            step = self._line_start(text, at, mark, final=final)
            if step != (at, ""):
                return step
            self._line_begins = False
        if plain := _PLAIN.match(text, at):
            return plain.end(), plain.group()
        return self._mark(text, at, mark, final=final)

    def _skip(self, text: str, at: int, *, final: bool) -> Step | None:
        end = text.find("```", at)
        if end >= 0:
            self._in_fence = False
            return end + len("```"), ""
        keep = 0 if final else len("```") - 1
        return (max(at, len(text) - keep), "") if len(text) - keep > at else None

    def _line_start(self, text: str, at: int, mark: str, *, final: bool) -> Step | None:
        """Read a mark that counts only at the start of a line. Return (at, "") if there is none."""
        if mark in " \t":
            return at + 1, ""
        if mark == "|":
            end = text.find("\n", at)
            if end < 0 and not final:
                return None
            end = len(text) if end < 0 else end
            return self._row(text[at:end], end)
        if mark == ">":
            return at + 1, ""
        if mark not in "#-+*_=":
            return at, ""
        run = _run(text, at)
        end = at + run
        if _open(text, at, run, final=final):
            return None
        if run == _LONGEST_RUN:
            return end, ""
        if rule := _RULE.match(text, at):
            return None if rule.end() == len(text) and not final else (rule.end(), "")
        follows = text[end : end + 1]
        if follows in (" ", "\t") and ((mark == "#" and run <= 6) or (mark in "-+*" and run == 1)):
            return end + 1, ""
        return at, ""

    def _row(self, line: str, end: int) -> Step:
        """Return the cells of a table row, separated like the items of a list."""
        self._line_begins = False
        if _TABLE_RULE.fullmatch(line):
            return end, ""
        cells = [_plain(cell).strip() for cell in line.strip().strip("|").split("|")]
        return end, ", ".join(cell for cell in cells if cell)

    def _mark(self, text: str, at: int, mark: str, *, final: bool) -> Step | None:
        if mark in "hHwW":
            return self._address(text, at, final=final)
        if mark == "`":
            return self._code(text, at, final=final)
        if mark in "*_~":
            return self._emphasis(text, at, mark, final=final)
        if mark == "[":
            return self._link(text, at, final=final)
        if mark == "【":
            end = text.find("】", at)
            if end < 0:
                return (at + 1, mark) if final or len(text) - at > 60 else None
            return (end + 1, "") if "†" in text[at:end] else (at + 1, mark)
        if mark == "<":
            return self._tag(text, at, final=final)
        if mark == "&":
            if entity := _ENTITY.match(text, at):
                return entity.end(), html.unescape(entity.group()).replace("\xa0", " ")
            return None if not final and re.fullmatch(r"&[#\w]{0,20}", text[at:]) else (at + 1, mark)
        if mark == "\\":
            if at + 1 == len(text) and not final:
                return None
            escaped = text[at + 1 : at + 2]
            return (at + 2, escaped) if escaped in _PUNCTUATION and escaped else (at + 1, mark)
        emoji = _EMOJIS.match(text, at)
        return (emoji.end() if emoji else at + 1), ""

    def _address(self, text: str, at: int, *, final: bool) -> Step | None:
        before = text[at - 1] if at else self._read_last
        if before.isascii() and before.isalnum():
            return at + 1, text[at]
        rest = text[at : at + 8].lower()
        if not final and any(start.startswith(rest) and start != rest for start in _URL_STARTS):
            return None
        url = _URL.match(text, at)
        if url is None:
            return at + 1, text[at]
        if url.end() == len(text) and not final:
            return None
        # A full stop after an address ends the sentence, so it stays.
        return at + len(url.group().rstrip(".,;:!?)")), ""

    def _code(self, text: str, at: int, *, final: bool) -> Step | None:
        run = _run(text, at)
        if _open(text, at, run, final=final):
            return None
        if run < 3 or run == _LONGEST_RUN:
            return at + run, ""
        line_end = text.find("\n", at)
        closing = text.find("```", at + run, len(text) if line_end < 0 else line_end)
        if closing >= 0:
            return closing + 3, text[at + run : closing]  # a fence that ends on the same line is part of a sentence
        if line_end < 0 and not final:
            return None
        self._in_fence = True
        return (len(text) if line_end < 0 else line_end + 1), ""

    def _emphasis(self, text: str, at: int, mark: str, *, final: bool) -> Step | None:
        end = at + _run(text, at)
        if _open(text, at, end - at, final=final):
            return None
        before, after = (text[at - 1] if at else self._read_last), text[end : end + 1]
        joins = before.isalnum() and after.isalnum()
        if mark == "~":
            return end, text[at:end] if end - at == 1 else ""
        if mark == "_":
            return end, " " if joins else ""
        multiplies = (before.isdigit() and after.isdigit()) or (before.isspace() and after.isspace())
        return end, text[at:end] if multiplies and end - at == 1 else ""

    def _link(self, text: str, at: int, *, final: bool) -> Step | None:
        close = text.find("]", at)
        line_end = text.find("\n", at)
        if close < 0 or -1 < line_end < close:
            known = final or line_end >= 0 or len(text) - at > _LONGEST_LINK
            return (at + 1, "[") if known else None
        words = text[at + 1 : close]
        if close + 1 == len(text) and not final:
            return None
        if text[close + 1 : close + 2] == "(":
            end = text.find(")", close)
            if end < 0 and not final and len(text) - at <= _LONGEST_LINK:
                return None
            if end >= 0:
                image = (text[at - 1] if at else self._read_last) == "!"
                return end + 1, "" if image else _plain(words).strip("\n")
        if re.fullmatch(r"\^?\d{1,3}(?:[,-]\s?\d{1,3})*", words):
            return close + 1, ""  # a citation
        return at + 1, "["

    def _tag(self, text: str, at: int, *, final: bool) -> Step | None:
        tag = _TAG.match(text, at)
        if tag is None:
            open_still = re.fullmatch(r"</?(?:[A-Za-z|!?][^<>]*)?", text[at:]) and len(text) - at <= _LONGEST_TAG
            return None if open_still and not final else (at + 1, "<")
        return tag.end(), ""


def _run(text: str, at: int) -> int:
    """Return the length of the run of this mark. A run longer than any mark is cut, so that little is held back."""
    end, limit = at, min(len(text), at + _LONGEST_RUN)
    while end < limit and text[end] == text[at]:
        end += 1
    return end - at


def _open(text: str, at: int, run: int, *, final: bool) -> bool:
    """Return whether the run may continue in the text that is still to come."""
    return at + run == len(text) and run < _LONGEST_RUN and not final


def _plain(text: str) -> str:
    """Return a whole text without Markdown."""

    stage = Markup()
    return stage.push(text) + stage.flush()
