"""Engines by name. Each is opened when it is first used, and then shared."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dialgraph.services.errors import UnknownServiceError

Engine = TypeVar("Engine")


class LazyEngines(dict[str, Engine]):
    """A dictionary that opens an engine on the first `engines[name]`. Raises UnknownServiceError."""

    def __init__(
        self, kind: str, opener: Callable[[str, Any], Engine], addresses: Callable[[], Mapping[str, Any]]
    ) -> None:
        super().__init__()
        self._kind = kind
        self._opener = opener
        self._addresses = addresses

    def __missing__(self, name: str) -> Engine:
        engine = self[name] = open_engine(self._opener, name, setting_of(self._kind, name, self._addresses()))
        return engine


def setting_of(kind: str, name: str, addresses: Mapping[str, Engine]) -> Engine:
    """Return the setting of this name. Raise UnknownServiceError if the settings do not have it."""
    if name not in addresses:
        raise UnknownServiceError(
            f"No {kind} {name!r} in the settings. Accepted: {', '.join(map(repr, sorted(addresses))) or 'none yet'};"
            f" to add one, use `{kind.replace(' ', '_')}s` in dialgraph.yaml."
        )
    return addresses[name]


def open_engine(opener: Callable[..., Engine], *arguments: Any) -> Engine:
    """Return what `opener` returns for these arguments. Raise UnknownServiceError if it raises ValueError."""
    try:
        return opener(*arguments)
    except ValueError as error:
        raise UnknownServiceError(str(error)) from error
