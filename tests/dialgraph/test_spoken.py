"""Where streamed words are cut into sentences that a voice can speak."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgraph.language.spoken import CLAUSE, LONGEST, SentenceCutter

TEXTS = {
    "Hello there. How are you? Fine!": ["Hello there. ", "How are you? ", "Fine!"],
    "It costs 3.50. Dr. Chen is here at 9 a.m. today.": ["It costs 3.50. ", "Dr. Chen is here at 9 a.m. today."],
    'He said "Stop." Then he left.': ['He said "Stop." ', "Then he left."],
    "您好。请问几位？两位！“好的。”走吧": ["您好。", "请问几位？", "两位！", "“好的。”", "走吧"],
    "It opens at 10:30, e.g. on Sundays. Bye.": ["It opens at 10:30, e.g. on Sundays. ", "Bye."],
    "Version 2.0 is out. 它很好。OK.": ["Version 2.0 is out. ", "它很好。", "OK."],
    "First line\nsecond line": ["First line\n", "second line"],
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("text", TEXTS)
def test_sentences_are_found_in_pieces_of_any_size(text: str, size: int) -> None:
    cutter = SentenceCutter()
    parts = [part for at in range(0, len(text), size) for part in cutter.push(text[at : at + size])]
    assert [*parts, cutter.rest()] == TEXTS[text]


LONG = {
    "en": (
        "Breakfast is served in the winter garden on the ground floor from seven to half past ten, on Sundays until"
        " eleven, and if you have to leave earlier, please tell us the evening before, so that we can prepare 10,000"
        " little things"
    ),
    "zh": (
        "早餐在一楼的冬季花园供应，时间是早上七点到十点半，星期天到十一点，如果您需要提前离开，请在前一天晚上告诉我们，"
        "这样我们就可以为您准备好路上吃的东西、水果和一杯热咖啡，祝您旅途愉快"
    ),
}


@pytest.mark.parametrize("language", LONG)
def test_a_long_sentence_is_cut_at_a_clause(language: str) -> None:
    cutter = SentenceCutter()
    parts = [part for character in LONG[language] for part in cutter.push(character)]
    rest = cutter.rest()
    assert "".join([*parts, rest]) == LONG[language] and parts
    for part in parts:
        assert part.rstrip()[-1] in ",，、" and "10," not in part[-4:]
        weight = len(part) * (3 if language == "zh" else 1)
        assert 30 <= weight <= CLAUSE + 5


def test_a_long_sentence_without_any_clause_is_cut_too() -> None:
    cutter = SentenceCutter()
    parts = [part for character in "word " * 200 + "x" * 900 + "字" * 400 for part in cutter.push(character)]
    assert len(parts) > 5 and max(map(len, parts)) <= 2 * LONGEST


@given(st.lists(st.text(alphabet="aA1.,!? 。，？“”\n（）…;:'\"-你好", max_size=40), max_size=40))
def test_cutting_loses_no_character(pieces: list[str]) -> None:
    cutter = SentenceCutter()
    parts = [part for piece in pieces for part in cutter.push(piece)]
    assert "".join([*parts, cutter.rest()]) == "".join(pieces)


@pytest.mark.parametrize(
    ("text", "pause"),
    [
        ("One moment. ", 0.06), ("Really?!", 0.06), ("请稍等。", 0.06), ("Yes!", 0.06), ("等等……", 0.06),
        ("A line\n", 0.06),
        # Text may continue after a full stop: "readme.txt", "6 a.m. on weekdays", "the U.S. of old".
        ("One moment.", 0.3), ("readme.", 0.3), ("at 6 a.m. ", 0.3), ("in the U.S. ", 0.3), ('"Yes."', 0.06),
        ("It costs 3.", None), ("Dr.", None), ("Mr. J.", None), ("I am", None), ("", None), ("  ", None),
        ("e.g.", None), ("Hello,", None), ("Done. And", None),
    ],
)  # fmt: skip
def test_a_possible_end_is_taken_after_a_pause_of_the_model(text: str, pause: float | None) -> None:
    cutter = SentenceCutter()
    list(cutter.push(text))
    assert cutter.pause == pause


@pytest.mark.parametrize("piece", [*",!.—… ，a字", ', "', '!"', "\n ", "- ", "。”", "word "])
def test_cutting_any_text_takes_linear_time(piece: str) -> None:
    """Prevent an old fault: ten thousand commas held the event loop for nine seconds."""

    def taken(count: int) -> float:
        cutter = SentenceCutter()
        began = time.process_time()
        assert sum(map(len, cutter.push(piece * count + "x"))) <= count * len(piece) + 1
        return time.process_time() - began

    assert taken(40_000) < 3, "linear time is less than 0.3 s; quadratic time is more than 100 s"
