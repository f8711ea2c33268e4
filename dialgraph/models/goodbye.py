"""Detects whether the caller says goodbye, in English and Chinese, as opposed to talking about a goodbye."""

import re
import unicodedata
from collections.abc import Sequence

_LONGEST = 200
"""The longest utterance, in characters, that can be a goodbye and nothing else."""

# A goodbye is an utterance that contains a parting word and nothing but parting words, thanks and small talk.
# Anything else in it ("… in French?", "don't …", "before I …") makes it something to answer.
_PARTING_EN = (
    r"good ?bye|bye|bye ?bye|farewell|see (?:you|ya)|see you (?:later|soon|then|around|tomorrow)"
    r"|talk (?:to you )?(?:later|soon)"
    r"|catch you later|take care|have an? (?:good|great|nice|lovely|wonderful) (?:day|one|night|evening"
    r"|weekend|afternoon)"
    r"|good ?night|so long|cheerio|ta ta|hang up|(?:you can|please|go ahead and|let'?s) (?:hang up|end (?:the"
    r"|this) call)"
    r"|end (?:the|this) call|that(?:'?s| is| will be|'?ll be) (?:all|it)(?: for (?:now|today))?"
    r"|that(?:'?s| is) (?:all|everything)(?: that)? i need(?:ed)?|i(?:'?m| am) (?:all )?(?:done|finished|all set)"
    r"|i (?:have to|gotta|got to|must|need to|should|'?ve got to) (?:go|run|leave)(?: now)?"
    r"|(?:nothing|no,? nothing) (?:else|more)|we(?:'?re| are) done|talk to you (?:later|soon|tomorrow)"
)
_FILLER_EN = (
    r"ok(?:ay)?|alright|all right|right|well|so|then|now|thanks?(?: you)?(?: (?:so|very) much)?"
    r"|thank you(?: (?:so|very) much)?"
    r"|thanks a (?:lot|bunch|million)|many thanks|for (?:your|the|all your) (?:help|time|call|information"
    r"|assistance)|for everything"
    r"|much appreciated|i appreciate (?:it|your help)|appreciate it|great|perfect|good|nice|cool|fine"
    r"|wonderful|lovely|awesome|excellent"
    r"|no|nope|yes|yeah|yep|sure|please|and|you too|everyone|all|sir|madam|ma'?am|dear|mate|my friend|for now"
    r"|again|later|oh|um|uh|hey"
    r"|that was (?:very |really |so )?helpful|you(?:'?ve| have) been (?:very |really |so |most )?(?:helpful"
    r"|kind|great)"
    r"|i(?:'?ll| will) (?:call|ring) (?:you )?(?:back|again)(?: (?:later|tomorrow|soon))?|have fun|cheers|speak soon"
    r"|it was (?:nice|good|great|lovely) (?:talking|speaking) (?:to|with) you|(?:nice|good) talking to you"
)
_PARTING_ZH = (
    "再见|再會|再会|拜拜|拜|掰掰|回头见|回见|明天见|下次见|待会儿?见|回聊|下次再聊|改天再聊|先这样|就这样|就到这里?|到此为止|没别的(?:事|问题)"
    "|没有别的(?:事|问题)|没有?其他(?:的)?(?:事情?|问题)|没(?:什么)?(?:事|问题)|没有?了|不用了|(?:我|先|你)?(?:可以)?挂(?:断)?(?:电话)?"
    "|结束(?:通话|电话)|(?:我)?(?:先|得|要)?(?:走|忙)(?:去)?|晚安|慢走|祝(?:你|您)(?:生活愉快|工作顺利|愉快|好运|一切顺利)"
    "|(?:我)?问完|(?:我)?都?(?:明白|清楚|知道)|(?:先)?不打扰(?:你|您)?|不聊|下次再(?:打|说)"
)
# Some of these part only together with others: "明白了" alone is an acknowledgement.
_WEAK_ZH = re.compile("我?都?(?:明白|清楚|知道)|不用了|没有?了|没(?:什么)?(?:事|问题)")
_FILLER_ZH = (
    "好的?|嗯+|哦|喔|噢|行|可以|那|那么|就|先|谢谢(?:你|您|啦|了)?|多谢|非常感谢|感谢|太感谢|(?:你|您)?的?帮助|(?:你|您)|我|了|啦|吧|呀|啊|哈|哟|咯|喽|呢|吗?|的"
    "|今天|麻烦(?:你|您)|辛苦(?:了)?|没|大家|各位|祝|回头|下次|改天|对|是|都|也|请|帮我|电话|通话|现在|到这儿?|太好|很好"
)
_QUESTION = re.compile(r"[?？]\s*$|吗[。.!！]*\s*$")
_MARKS = re.compile(r"[^\w\s']|_")
_MIXED_BYE = re.compile(r"\b(?:good ?bye|bye ?bye|bye)\b")


def is_goodbye(text: str) -> bool:
    """Return whether a receptionist would hang up after these words."""
    normal = unicodedata.normalize("NFKC", text[:_LONGEST]).lower().replace("’", "'").strip()
    if not normal or len(text) > _LONGEST or _QUESTION.search(normal):
        return False
    spaced = " ".join(_MARKS.sub(" ", normal).split())
    if _covers(spaced + " ", _ENGLISH):
        return _ENGLISH_PARTING.search(spaced) is not None
    # "好的，bye bye": Chinese callers also part in English.
    joined = _MIXED_BYE.sub("再见", spaced).replace(" ", "")
    if not _covers(joined, _CHINESE):
        return False
    partings = [match.group() for match in _CHINESE_PARTING.finditer(joined)]
    return any(not _WEAK_ZH.fullmatch(parting) for parting in partings)


def _alternatives(pattern: str) -> list[str]:
    """Return the top-level alternatives of a pattern."""
    parts, depth = [""], 0
    for character in pattern:
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _covers(text: str, pieces: Sequence[re.Pattern[str]]) -> bool:
    """Return whether the text consists of these pieces alone. Each position is tried once: a regular expression that
    repeats alternatives would need exponential time for words that a caller can choose on purpose.
    """
    reached, waiting = {0}, [0]
    while waiting:
        at = waiting.pop()
        for piece in pieces:
            match = piece.match(text, at)
            if match and match.end() not in reached:
                reached.add(match.end())
                waiting.append(match.end())
    return len(text) in reached


_ENGLISH = [re.compile(f"(?:{piece}) ", re.ASCII) for piece in _alternatives(f"{_PARTING_EN}|{_FILLER_EN}")]
_ENGLISH_PARTING = re.compile(rf"\b(?:{_PARTING_EN})(?:\s|$)", re.ASCII)
_CHINESE = [re.compile(piece) for piece in _alternatives(f"{_PARTING_ZH}|{_FILLER_ZH}")]
_CHINESE_PARTING = re.compile(_PARTING_ZH)
