"""The redaction policy: private values become valid-looking stand-ins, always the same, also over borders of chunks."""

import json
import re
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgraph.language.guard import find_cards, find_identity_numbers, find_phone_numbers
from dialgraph.privacy.finders import words_finder
from dialgraph.privacy.redaction import Redactor

REDACTOR = Redactor(b"k" * 32, words_finder(["Ann Smith", "王小明"]))
PRIVATE = [
    ("My card is 4111 1111 1111 1111.", "4111 1111 1111 1111"),
    ("card 4111111111111111", "4111111111111111"),
    ("４１１１１１１１１１１１１１１１", "４１１１１１１１１１１１１１１１"),
    ("*4111* 1111-1111-1111", "4111* 1111-1111-1111"),
    ("id 11010519491231002X", "11010519491231002X"),
    ("ssn 123-45-6789.", "123-45-6789"),
    ("call +49 170 1234567 now", "+49 170 1234567"),
    ("13812345678", "13812345678"),
    ("or 555-123-4567", "555-123-4567"),
    ("mail ann.b@example.co.uk!", "ann.b@example"),
    ("key sk-proj-abcdef1234567890", "abcdef1234567890"),
    ("Authorization: Bearer abcdef123456", "abcdef123456"),
    ('{"api_key": "abcdef123456"}', "abcdef123456"),
    ("eyJhbGciOiJ9.eyJzdWIi.c2lnbmF0dXJl", "eyJhbGciOiJ9"),
    ("dg_abcdefghijkl was refused", "abcdefghijkl"),
    ("mail ann_b@my_host.com", "ann_b@my_host"),
    ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN7EXAMPLE"),
    ("I am ann smith", "ann smith"),
    ("我叫王小明。", "王小明"),
]


WRITTEN = [
    "4111 1111 1111 1111 12/27", "4111 1111 1111 1111 123", "4111111111111111 12/27 cvc 123", "2 4111 1111 1111 1111",
    "4111\t1111\n1111 1111", "491701234567", "00491701234567", "0170 1234567", "0170/1234567", "+49-170/1234567",
    "06 12 34 56 78", "020 7946 0958", "555.123.4567", "+1.415.555.2671", "(555)123-4567", "010 12345678",
    "138 123 45678", "tel:491701234567", "+49 (0)170 / 123 45 67", "123 45 6789", "ann%40example.com",
    "ann＠example.com", "Authorization: Bearer abcdefghijklmnopqrstu", "password: correcthorsebattery",
    "hf_abcdefghijklmnop", "SG.abcdefghijkl.mnopqrstuvwx", "https://user:pa55word1@host", "xoxb-123456789-abc",
    "AIzaSyA1234567890abcdefg", "github_pat_11ABCDEFG0abcdef",
]  # fmt: skip
ORDINARY = [
    "Basic 12-month plan", "basic 19.99€/month", "Our secret 3-course menu", "token 2024-05-01", "pkg@1.2.3",
    "at 7:30 on 2026-11-29", "1.234,56 €", "version 1.2.3.4", "the token expired yesterday", "Room 101, floor 3",
]  # fmt: skip


@pytest.mark.parametrize("text", WRITTEN)
def test_a_private_value_is_found_in_every_usual_form(text: str) -> None:
    assert REDACTOR.text(text) != text and len(REDACTOR.text(text)) == len(text)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_not_taken_for_a_private_value(text: str) -> None:
    assert REDACTOR.text(text) == text


@pytest.mark.parametrize(
    "text", ["1 a " + "token=" * 16_600, "eyJ-" * 25_000, "1 2 3 " * 17_000, "a@" * 50_000, "4111 1111 " * 10_000,
             "a." * 50_000 + "@b.c", "://a:" * 20_000, "sk-" * 33_000, "a@" + "b." * 50_000],
    ids=lambda text: text[:8],
)  # fmt: skip
def test_the_search_takes_linear_time(text: str) -> None:
    """The first one took 27 s once, and every call waited. Processor time, because other programs do not change it."""
    began = time.process_time()
    REDACTOR.text(text)
    assert time.process_time() - began < 3


def test_a_field_with_the_name_of_a_key_is_private_as_a_whole() -> None:
    redacted = REDACTOR.data({"password": "hunter-two", "metadata": {"api_key": "abcdefgh"}, "seed": 1714567890})
    assert "hunter" not in str(redacted) and "abcdefgh" not in str(redacted) and redacted["seed"] == 1714567890


def test_escaped_characters_hide_nothing() -> None:
    text = json.dumps({"name": "王小明", "at": "ann@example.com"})
    assert "\\u" in text
    for redacted in (REDACTOR.data(text), "".join(REDACTOR.pieces([text[:9], text[9:]]))):
        assert not {"王小明", "ann@example.com"} & set(json.loads(redacted).values())


def test_the_authors_words_are_found_whatever_marks_they_have() -> None:
    redactor = Redactor(b"k" * 32, words_finder(["proj_x", "Ann–Marie"]))
    assert "proj_x" not in redactor.text("the proj_x team") and "Marie" not in redactor.text("Ann-Marie")
    assert redactor.data({"proj_x": "proj_x"})["proj_x"] != "proj_x", "a field may have any name"


@pytest.mark.parametrize(("text", "private"), PRIVATE)
def test_a_private_value_becomes_a_stand_in_of_the_same_length(text: str, private: str) -> None:
    redacted = REDACTOR.text(text)
    assert private not in redacted and len(redacted) == len(text)
    assert REDACTOR.text(text) == redacted, "always the same"
    assert Redactor(b"x" * 32, words_finder(["Ann Smith", "王小明"])).text(text) != redacted, "not without the key"


@pytest.mark.parametrize(("text", "private"), PRIVATE)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_value_is_found_over_the_borders_of_pieces(text: str, private: str, size: int) -> None:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    redacted = REDACTOR.pieces(pieces)
    assert "".join(redacted) == REDACTOR.text(text) and list(map(len, redacted)) == list(map(len, pieces))


@given(st.text(st.sampled_from(string.digits), min_size=12, max_size=18))
def test_a_stand_in_is_valid_where_the_value_was(digits: str) -> None:
    redacted = REDACTOR.text(digits)
    for find in (find_cards, find_identity_numbers):
        assert bool(find(digits)) <= bool(find(redacted))
    assert find_phone_numbers(REDACTOR.text("+49 170 1234567")) and redacted.isdigit()


@given(st.text(st.characters(exclude_characters="@", exclude_categories=["Nd", "Nl", "No", "Cs"]), max_size=80))
def test_other_text_stays_as_it_is(text: str) -> None:
    plain = Redactor(b"k" * 32)
    assert plain.text(text) == text or re.search(r"(sk|pk|rk|dg|dr|gsk|xai|gh[op])[-_]|AKIA|ASIA|eyJ", text)


def test_the_same_digits_get_the_same_digits_whatever_separates_them() -> None:
    spaced, plain = REDACTOR.text("4111 1111 1111 1111"), REDACTOR.text("4111111111111111")
    assert spaced.replace(" ", "") == plain


def test_data_is_redacted_in_its_names_texts_and_numbers() -> None:
    data = {"a@example.com": [13812345678, {"deep": ["+49 170 1234567", True, None, 3.5]}]}
    redacted = REDACTOR.data(data)
    assert not re.search(r"a@example|13812345678|1234567", str(redacted))
    assert redacted[next(iter(redacted))][1]["deep"][1:] == [True, None, 3.5]
