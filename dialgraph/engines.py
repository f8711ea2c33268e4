"""Engines by URL: how settings declare the address of an engine, and how its engine is imported."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import ConfigDict

ADDRESS: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
"""The pydantic configuration of an address in the settings. An unknown field is an error."""
LONGEST_SECONDS: Final = 24 * 3600
"""The largest value of any deadline, in seconds."""


def engine_of(kind: str, name: str, url: str, engines: Mapping[str, str], accepted: str = "") -> Any:
    """Return the class or function that creates the engine of `url`. Its module is imported only now.

    `engines` maps a URL scheme to `module:attribute`. `kind` and `name` are its names in the settings. `accepted`
    replaces the list of schemes in the error message. Raise ValueError for an unknown scheme.
    """
    scheme = urlsplit(url).scheme
    if scheme not in engines:
        accepted = accepted or f"{', '.join(sorted(engines))}."
        raise ValueError(f"{kind} {name!r}: no engine for {scheme!r}. Accepted: {accepted}")
    module, attribute = engines[scheme].split(":")
    return getattr(import_module(module), attribute)
