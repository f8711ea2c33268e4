"""Engines by URL: how settings declare the address of an engine, and how its engine is imported."""

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import ConfigDict

from dialgraph.plugins import loaded, plugins

_PLUGINS: Final[Mapping[str, str]] = {
    "model": "models",
    "store": "stores",
    "voice": "voices",
    "transcriber": "transcribers",
    "embedder": "embedders",
    "tools": "tool servers",
}
"""The kinds of plugins that are engines."""
_OWN: Final = re.compile(r"((?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*):([A-Za-z_]\w*)")
"""`package.module:attribute`."""
ADDRESS: Final = ConfigDict(extra="forbid", allow_inf_nan=False)
"""The pydantic configuration of an address in the settings. An unknown field is an error."""
LONGEST_SECONDS: Final = 24 * 3600
"""The largest value of any deadline, in seconds."""


def engine_of(kind: str, name: str, url: str, engines: Mapping[str, str], accepted: str = "") -> Any:
    """Return the class or function that creates the engine of `url`. Its module is imported only now.

    `engines` maps a URL scheme to `module:attribute`. Plugins add schemes, and a URL can be `package.module:attribute`
    itself, for an engine in the author's own project. `kind` and `name` are its names in the settings. `accepted`
    replaces the list of schemes in the error message. Raise ValueError for an unknown scheme.
    """
    scheme = urlsplit(url).scheme
    brought = _PLUGINS.get(kind, "")
    if scheme not in engines and brought and scheme in plugins(brought):
        return loaded(brought, scheme)
    if scheme not in engines and (own := _OWN.fullmatch(url)) is not None:
        try:
            return getattr(import_module(own[1]), own[2])
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{kind} {name!r}: {url!r} cannot be imported: {error}.") from error
    if scheme not in engines:
        accepted = accepted or f"{', '.join(sorted(engines))}."
        raise ValueError(f"{kind} {name!r}: no engine for {scheme!r}. Accepted: {accepted}")
    module, attribute = engines[scheme].split(":")
    return getattr(import_module(module), attribute)
