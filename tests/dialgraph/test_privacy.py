"""The redaction policy: private values become valid-looking stand-ins, always the same, also over borders of chunks."""

import re
import string

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
