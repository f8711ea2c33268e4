"""Rates: how the settings write them, and which request is refused."""

from pathlib import Path

import pytest

from dialgraph.storage.cache import NoCache
from server.access.limiter import Limiter, Rate, read_rate
from server.errors import ApiError
from server.settings import Settings, SettingsError


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10/minute", Rate(10, 60)),
        ("1 per second", Rate(1, 1)),
        (" 5 per 2 hours ", Rate(5, 7200)),
        ("3/15 minutes", Rate(3, 900)),
        ("1000/day", Rate(1000, 86_400)),
    ],
)
def test_a_rate_is_read_from_its_text(text: str, rate: Rate) -> None:
    assert read_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["10", "0/minute", "10/0 minute", "10/fortnight", "-1/minute", "10/minute/second", "١/minute"]
)
def test_an_invalid_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match="must read like `10/minute`"):
        read_rate(text)


async def test_the_first_request_above_the_rate_is_refused(tmp_path: Path) -> None:
    limiter = Limiter(Settings(data_dir=tmp_path, rates={"turn": "2/minute"}), NoCache())
    for _ in range(2):
        await limiter.hit("turn", "ann")
    with pytest.raises(ApiError) as refused:
        await limiter.hit("turn", "ann")
    assert (refused.value.status, refused.value.code) == (429, "too_many_requests")
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
    await limiter.hit("turn", "bob")


async def test_an_empty_rate_limits_nothing(tmp_path: Path) -> None:
    limiter = Limiter(Settings(data_dir=tmp_path, rates={"turn": ""}), NoCache())
    for _ in range(1000):
        await limiter.hit("turn", "ann")
