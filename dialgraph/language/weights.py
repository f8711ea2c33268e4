"""The weights of the units of `dialgraph.language.words`: how much a unit says about the content of a question.

Tuned on one half of XQuAD's questions, in English, Chinese and both together, and reported on the other half
(benchmarks/README.md). Words that only shape a question ("what type of", "多少年") are not stop words: they count in a
search, but they weigh less. A Latin word is one unit, and a Chinese word of two characters is three; hence its weight.
"""

from functools import lru_cache

from dialgraph.language.words import HAN_CHARACTER, is_stop_word, words

_STOP = 0.6
_FRAME = 0.45
_LATIN = 2.5
_CHARACTER = 0.5
_FRAME_WORDS = frozenset(
    words(
        """about after against all also always another any approximately become before between call called consider down
        during each every first following give given group happen happened he he's her him his into just kind know known
        large last like long main make made many mean more most much name named no not now number often old one only
        order originally other out over part people person same say see she show some sometimes sort such take tell
        term thing this through time two type under up use used using very want way we were word year years day date
        amount according known year's please"""
    )
)
_FRAME_PAIRS = frozenset(
    """什么 多少 哪些 哪个 哪里 哪儿 哪一 一个 谁的 谁是 几个 几点 为什
    怎么 怎样 如何 多久 多大 何时 时候 名称 名字 名为 叫做 称为 类型
    种类 哪种 哪位 哪年 年份 一年 一种 其他 另一 主要 一些 这个 这些
    这种 原因 之一 可以 因为 多长 多远 属于 第一 以及 用于 进行 成为
    认为 通过 关于 作为 没有 他们 它们 我们 由于 方面 情况 指的 的是
    是什 人们 使用 请问 你们 能不 可不""".split()
)


@lru_cache(maxsize=65_536)
def weight(unit: str) -> float:
    """Return the weight: from 0.45 for a Chinese pair without content to 2.5 for a Latin word with content."""
    if is_stop_word(unit):
        return _STOP
    if HAN_CHARACTER.match(unit):
        if len(unit) == 1:
            return _CHARACTER
        return _FRAME if unit in _FRAME_PAIRS else 1.0
    return _LATIN * _FRAME if unit in _FRAME_WORDS else _LATIN


def tells(unit: str) -> bool:
    """Return whether the unit has content of its own, and does not only shape the question."""
    return weight(unit) in (1.0, _LATIN, _CHARACTER)
