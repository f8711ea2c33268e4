"""What turns cost: by list price and by the operator's own price; an unknown price is unknown, never nothing."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dialgraph.storage.tables.usage import USAGE
from dialgraph.turn.times import ModelTime
from server.settings import SettingsError
from server.turns.prices import read_prices
from tests.support.commands import run
from tests.support.serving import Served, serving
from tests.support.upstream import says, upstream

ASKED = {"stream": True, "messages": [{"role": "user", "content": "Hello?"}]}
PATH = "/chat/chat/completions"
TABLE = """\
small*: {list: {prompt: 1.0, cached: 0.5, completion: 4.0}, own: {prompt: 0.5, completion: 2.0}}
small-but-dear: {list: {prompt: 10.0, completion: 40.0}}
"""


def answer(prompt: int, completion: int, cached: int = 0) -> list[tuple[Any, ...]]:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return [*says("Hello.")[:-1], ("usage", usage), ("done",)]


async def rows_of(served: Served) -> list[Any]:
    await served.state.ledger.write()
    async with served.state.services.database.reading() as connection:
        return list((await connection.execute(USAGE.select().order_by(USAGE.c.created_at, USAGE.c.id))).all())


async def test_the_cost_of_a_turn_is_in_usage_metrics_and_records(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(TABLE, encoding="utf-8")
    settings: dict[str, Any] = {"prices": tmp_path / "prices.yaml", "record": "all"}
    async with (
        upstream(answer(1000, 100, cached=400)) as up,
        serving(tmp_path, models={"main": up.url}, **settings) as served,
    ):
        await served.post(PATH, {**ASKED, "model": "small-1"})
        [row] = await rows_of(served)
        scrape = (await served.get("/metrics")).body.decode()
    assert row.answered_by == "small-1"
    assert row.list_cost_usd == pytest.approx((600 * 1.0 + 400 * 0.5 + 100 * 4.0) / 1e6)
    assert row.cost_usd == pytest.approx((1000 * 0.5 + 100 * 2.0) / 1e6)
    assert 'dialgraph_cost_usd_total{graph="chat",model="main"} 0.0007' in scrape
    [recorded] = served.state.records.files.summaries()
    assert recorded.cost_usd == pytest.approx(0.0007)


async def test_an_unknown_price_is_unknown_and_told(tmp_path: Path) -> None:
    async with upstream(answer(1000, 100)) as up, serving(tmp_path, models={"main": up.url}) as served:
        await served.post(PATH, {**ASKED, "model": "nobody-knows-it"})
        [row] = await rows_of(served)
        scrape = (await served.get("/metrics")).body.decode()
    assert (row.answered_by, row.cost_usd, row.list_cost_usd) == ("nobody-knows-it", None, None)
    assert 'dialgraph_turns_without_price_total{graph="chat",model="main"} 1.0' in scrape
    assert "dialgraph_cost_usd_total{" not in scrape, "never 0"
    told = await asyncio.to_thread(run, "usage", "--by", "model", at=tmp_path, DIALGRAPH_DATA_DIR=str(tmp_path))
    assert "nobody-knows-it" in told.stdout and "unknown" in told.stdout and "DIALGRAPH_PRICES" in told.stdout


async def test_answers_without_a_model_cost_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.post("/rag/chat/completions", ASKED)
        [row] = await rows_of(served)
    assert (row.cost_usd, row.list_cost_usd) == (0.0, 0.0)


async def test_the_operator_sees_all_principals(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(TABLE, encoding="utf-8")
    keys = {"one": "a-key-of-sixteen-characters", "two": "other-key-of-sixteen-chars"}
    scripts = (answer(1000, 100), answer(2000, 200))
    async with (
        upstream(*scripts) as up,
        serving(tmp_path, models={"main": up.url}, api_keys=keys, prices=tmp_path / "prices.yaml") as served,
    ):
        for key in keys.values():
            await served.post(PATH, {**ASKED, "model": "small-but-dear"}, {"authorization": f"Bearer {key}"})
        await served.state.ledger.write()
    arguments = ("usage", "--by", "principal", "--json")
    told = await asyncio.to_thread(run, *arguments, at=tmp_path, DIALGRAPH_DATA_DIR=str(tmp_path))
    assert told.returncode == 0, told.stderr
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(row["principal"], row["turns"], row["prompt_tokens"]) for row in rows] == [
        ("two", 1, 2000),
        ("one", 1, 1000),
    ]
    assert rows[0]["cost_usd"] == pytest.approx((2000 * 10 + 200 * 40) / 1e6) and rows[0]["without_price"] == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: {list: {prompt: 1}}", "prices.yaml, line 1: 'a' must be {list: {prompt: 0.15, completion: 0.6}"),
        ("a: {list: {prompt: 1, completion: -1}}", "prices.yaml, line 1: 'a' must be"),
        ("b: 5", "prices.yaml, line 1: 'b' must be"),
        ("a: {list: {prompt: 1, completion: 1, tax: 2}}", "prices.yaml, line 1: 'a' must be"),
        ("[", "prices.yaml, line 1: the file is not valid YAML"),
        ("- a", "prices.yaml: it must be a table"),
    ],
)
def test_a_wrong_price_stops_the_start(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "prices.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        read_prices(tmp_path / "prices.yaml", {})
    assert str(refused.value).startswith(sentence)


def test_the_prices_that_come_with_dialgraph_can_be_read() -> None:
    costs = read_prices(None, {}).of([ModelTime("s", "main", 0.0, upstream_model="gpt-4o-mini")], 1_000_000, 0)
    assert costs[0].listed == pytest.approx(0.15) == costs[0].own
