"""Words and sentences in English and Chinese."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgraph.language.sentences import sentences
from dialgraph.language.words import in_language, is_chinese, words


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One. ", "Two! ", "Three?"]),
        ("It costs 3.50 euros. Good.", ["It costs 3.50 euros. ", "Good."]),
        ("Dr. Chen met J. Smith, e.g. at noon. Yes.", ["Dr. Chen met J. Smith, e.g. at noon. ", "Yes."]),
        ("Until 11 a.m. If you come late, ring.", ["Until 11 a.m. ", "If you come late, ring."]),
        ("Open at 8 a.m. on Sundays.", ["Open at 8 a.m. on Sundays."]),
        ("你好。早餐几点？七点！", ["你好。", "早餐几点？", "七点！"]),
        ("他说：“好的。”然后走了。", ["他说：“好的。”", "然后走了。"]),
        ("Really?! Yes...", ["Really?! ", "Yes..."]),
        ("See fig. 3 and no. 5. Thanks.", ["See fig. 3 and no. 5. ", "Thanks."]),
        ('He said "no." Then left.', ['He said "no." ', "Then left."]),
        ("first line\nsecond line", ["first line\n", "second line"]),
        ("", []),
    ],
)
def test_text_is_split_into_sentences(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


@given(st.text(alphabet="Aa1. ?!。？\n”)", max_size=60))
def test_splitting_loses_no_character(text: str) -> None:
    assert "".join(sentences(text)) == text


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("The rooms' keys", ["the", "room", "key"]),
        ("closes closed closing close", ["clos"] * 4),
        ("parties party", ["party", "party"]),
        ("stopped stopping stop", ["stop"] * 3),
        ("Ｗｉ－Ｆｉ it’s free", ["wi", "fi", "it", "free"]),
        ("早餐几点", ["早餐", "餐几", "几点", "早", "餐", "点"]),
        ("iPhone充电器在哪", ["iphon", "充电", "电器", "器在", "在哪", "充", "电", "器"]),
        ("一", ["一"]),
        ("  ?! ", []),
    ],
)
def test_text_is_split_into_words(text: str, units: list[str]) -> None:
    assert words(text) == units


@pytest.mark.parametrize(
    ("text", "chinese"),
    [
        ("hello", False),
        ("你好", True),
        ("WiFi密码是什么", True),
        ("What does 你好 mean in English?", False),
        ("", False),
    ],
)
def test_the_language_of_a_text_is_recognised(text: str, chinese: bool) -> None:
    assert is_chinese(text) is chinese


@pytest.mark.parametrize("text", ["e.g. a " * 5000, "word. then " * 3000, "a" * 50_000, "。" * 20_000])
def test_long_texts_are_split_quickly(text: str) -> None:
    began = time.process_time()
    assert "".join(sentences(text)) == text
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("said", "heard", "expected"),
    [
        ("Hi", "你好", "Hi"),
        ({"en": "Hi", "zh": "你好"}, "再见", "你好"),
        ({"zh": "你好", "en": ""}, "hello", ""),
        ({"zh": "你好"}, "hello", "你好"),
    ],
)
def test_a_phrase_is_chosen_in_the_callers_language(said: str | dict[str, str], heard: str, expected: str) -> None:
    assert in_language(said, heard) == expected
