"""What models cost: a table in a file, with list prices and the prices that the operator really pays.

A model that is not in the table has an unknown cost, never none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any, Final

from dialgraph.models.port import ModelAddress
from dialgraph.turn.times import ModelTime
from dialgraph.yaml_text import YamlError, line_in, read_yaml
from server.setting_sources import SettingsError

USUAL: Final = Path(__file__).resolve().parents[1] / "prices.yaml"
_PER: Final = 1_000_000
"""Prices are for a million tokens."""
_NAMES: Final = 256
"""The most names of models whose price is remembered. Clients may send any name."""
_KINDS: Final = ("prompt", "cached", "completion")


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one model, in US dollars for a million tokens."""

    prompt: float
    cached: float
    """Of tokens that the provider had in its cache."""
    completion: float

    def of(self, prompt: int, cached: int, completion: int) -> float:
        """Return the cost of these tokens. `cached` are part of `prompt`."""
        return ((prompt - cached) * self.prompt + cached * self.cached + completion * self.completion) / _PER


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What one model cost in a turn."""

    model: str
    """Its name in the settings."""
    upstream: str
    """The upstream's name of the model."""
    prompt: int
    cached: int
    completion: int
    own: float | None
    """In US dollars; None if it is not known."""
    listed: float | None


class Prices:
    """The price table of a server."""

    def __init__(self, table: Mapping[str, tuple[Price, Price]], addresses: Mapping[str, ModelAddress]) -> None:
        """`table`: pattern of an upstream's name of a model → list price and own price. `addresses`: the settings."""
        self._table = table
        self._addresses = addresses
        self._price = lru_cache(_NAMES)(self._found)

    def of(self, models: Sequence[ModelTime], prompt: int, completion: int) -> list[ModelCost]:
        """Return what each model cost. `prompt` and `completion`: all tokens of the turn.

        Tokens that no model has reported, such as those of an interrupted answer, belong to the last one.
        """
        found: dict[tuple[str, str], list[int]] = {}
        for one in models:
            counts = found.setdefault((one.model, self._upstream(one)), [0, 0, 0])
            for at, count in enumerate((one.prompt_tokens, one.cached_tokens, one.completion_tokens)):
                counts[at] += count
        if found:
            last = found[models[-1].model, self._upstream(models[-1])]
            last[0] = max(last[0] + prompt - sum(counts[0] for counts in found.values()), 0)
            last[2] = max(last[2] + completion - sum(counts[2] for counts in found.values()), 0)
        elif prompt or completion:  # no model was asked: what was said cost nothing
            return [ModelCost("", "", prompt, 0, completion, 0.0, 0.0)]
        return [self._cost(name, upstream, *counts) for (name, upstream), counts in found.items()]

    def _cost(self, name: str, upstream: str, prompt: int, cached: int, completion: int) -> ModelCost:
        address = self._addresses.get(name)
        if address is not None and address.url.startswith("extractive:"):
            return ModelCost(name, upstream, prompt, cached, completion, 0.0, 0.0)
        price = self._price(upstream)
        if price is None:
            return ModelCost(name, upstream, prompt, cached, completion, None, None)
        listed, own = (one.of(prompt, cached, completion) for one in price)
        return ModelCost(name, upstream, prompt, cached, completion, own, listed)

    def _upstream(self, one: ModelTime) -> str:
        address = self._addresses.get(one.model)
        return one.upstream_model or (address.model if address is not None else "")

    def _found(self, upstream: str) -> tuple[Price, Price] | None:
        if upstream in self._table:
            return self._table[upstream]
        matching = [pattern for pattern in self._table if fnmatchcase(upstream, pattern)]
        return self._table[max(matching, key=len)] if matching else None


def whole(costs: Sequence[float | None]) -> float | None:
    """Return the sum, or None if one of them is not known."""
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def read_prices(file: Path | None, addresses: Mapping[str, ModelAddress]) -> Prices:
    """Return the price table in this file; None: the one that comes with Dialgraph. Raises SettingsError."""
    path = file or USUAL
    try:
        data, nodes = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"Setting 'prices': the file {path.name!r} cannot be read.") from None
    except YamlError as error:
        raise SettingsError(f"{path.name}, line {error.line}: the file is not valid YAML: {error}.") from None
    if not isinstance(data, dict):
        raise SettingsError(f"{path.name}: it must be a table: model → list and own prices.")
    table: dict[str, tuple[Price, Price]] = {}
    for name, prices in data.items():
        try:
            listed = _price(prices["list"])
            table[str(name)] = listed, _price(prices.get("own", prices["list"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            form = "{list: {prompt: 0.15, completion: 0.6}, own: …}, in US dollars for a million tokens"
            raise SettingsError(f"{path.name}, line {line_in(nodes, [name])}: {name!r} must be {form}.") from None
    return Prices(table, addresses)


def _price(given: Any) -> Price:
    if set(given) - set(_KINDS):
        raise ValueError(given)
    prompt, completion = float(given["prompt"]), float(given["completion"])
    cached = float(given.get("cached", prompt))
    if not all(isfinite(one) and one >= 0 for one in (prompt, completion, cached)):
        raise ValueError(given)
    return Price(prompt, cached, completion)
