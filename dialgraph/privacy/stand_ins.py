"""Stand-ins for private values: the same value always gets the same one, of the same length and form.

A stand-in is valid where the value was: a card has a correct checksum, an e-mail address a domain. So a record with
stand-ins can be replayed, and a value that streams in several pieces can be replaced piece by piece. A stand-in says
nothing about its value without the key.
"""

import hashlib
import hmac
import string
from collections.abc import Iterator

from dialgraph.language.guard import identity_check_digit, luhn_is_right
from dialgraph.privacy.finders import Kind

_HAN = "某甲乙丙丁戊己庚辛壬癸"
_AT_SIGNS = ("@", "＠", "%40", "﹫")
_KEPT_DIGITS = 2
"""The first digits of a phone number say its country or kind; with others it would not look like a phone number."""


def stand_in(value: str, kind: Kind, key: bytes) -> str:
    """Return what stands in for this value."""
    if kind in ("card", "identity", "phone"):
        return _number(value, kind, key)
    if kind == "email":
        sign = next(sign for sign in _AT_SIGNS if sign in value)
        name, _, domain = value.partition(sign)
        host, _, top = domain.rpartition(".")
        same = f"{name}@{host}".lower()
        made = _letters(same, name + host, key)
        return f"{made[: len(name)]}{sign}{made[len(name) :]}.{top}"
    return _letters(value.lower(), value, key)


def _number(value: str, kind: Kind, key: bytes) -> str:
    """Replace the digits, but not what separates them. The same digits with other separators give the same ones."""
    digits = [one for one in value if one.isdigit()]
    plain = "".join(str(int(one)) for one in digits)
    stream = _stream(key, f"{kind}:{plain}")
    made = [str(next(stream) % 10) for _ in digits]
    if kind == "phone":
        made[:_KEPT_DIGITS] = plain[:_KEPT_DIGITS]
    if kind == "card":
        made[0] = plain[0]
        made[-1] = next(str(last) for last in range(10) if luhn_is_right("".join([*made[:-1], str(last)])))
    if "".join(made) == plain:  # one in millions, and a value must never stand for itself
        made[-2] = str((int(made[-2]) + 5) % 10)
        if kind == "card":
            made[-1] = next(str(last) for last in range(10) if luhn_is_right("".join([*made[:-1], str(last)])))
    check = ""
    if kind == "identity" and len([one for one in value if one.isdigit() or one in "xX"]) == 18:
        body = "".join(made)[:17]
        check = identity_check_digit(body)
        made = [*body, check]
    found = iter(made)
    return "".join(next(found) if one.isdigit() or (check and one in "xX") else one for one in value)


def _letters(same: str, value: str, key: bytes) -> str:
    """Replace each letter with a letter and each digit with a digit. `same`: what equal values have in common."""
    stream = _stream(key, same)
    return "".join(_replaced(one, next(stream)) for one in value)


def _replaced(one: str, chance: int) -> str:
    if one.isascii():
        for alphabet in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
            if one in alphabet:
                return alphabet[(alphabet.index(one) + 1 + chance % (len(alphabet) - 1)) % len(alphabet)]
        return one
    if "\u4e00" <= one <= "\u9fff":
        return _HAN[chance % len(_HAN)]
    return string.ascii_lowercase[chance % 26] if one.isalnum() else one


def _stream(key: bytes, value: str) -> Iterator[int]:
    """Yield numbers from 0 to 255 that follow from the key and the value."""
    block = 0
    while True:
        yield from hmac.digest(key, f"{block}:{value}".encode("utf-8", "surrogatepass"), hashlib.sha256)
        block += 1
