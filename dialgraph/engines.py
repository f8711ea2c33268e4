"""Engines by URL: how settings declare an engine's address, and how the one that the address names is imported."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import ConfigDict

ADDRESS: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
"""How the pydantic dataclass of an address reads settings: an unknown field is an error."""
LONGEST_SECONDS: Final = 24 * 3600
"""The largest value of any deadline."""


def engine_of(kind: str, name: str, url: str, engines: Mapping[str, str], accepted: str = "") -> Any:
    """Return the class or function that makes the engine of `url`, which is imported only now.

    `engines` maps a URL scheme to `module:attribute`. `kind` and `name` are what the settings call it; `accepted` is
    said instead of the schemes. Raises ValueError for an unknown scheme.
    """
    scheme = urlsplit(url).scheme
    if scheme not in engines:
        accepted = accepted or f"{', '.join(sorted(engines))}."
        raise ValueError(f"{kind} {name!r}: no engine for {scheme!r}. Accepted: {accepted}")
    module, attribute = engines[scheme].split(":")
    return getattr(import_module(module), attribute)
