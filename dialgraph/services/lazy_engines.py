"""Engines by name, each opened at its first use and then shared."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dialgraph.services.errors import UnknownServiceError

Engine = TypeVar("Engine")


class LazyEngines(dict[str, Engine]):
    """`engines[name]` opens the engine that the settings give that name. Raises UnknownServiceError."""

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
    """Return what the settings say of a name. Raises UnknownServiceError."""
    if name not in addresses:
        raise UnknownServiceError(
            f"No {kind} {name!r} in the settings. Accepted: {', '.join(map(repr, sorted(addresses))) or 'none yet'};"
            f" another one goes into `{kind.replace(' ', '_')}s` of dialgraph.yaml."
        )
    return addresses[name]


def open_engine(opener: Callable[..., Engine], *arguments: Any) -> Engine:
    """Return what `opener` returns for these arguments. Raises UnknownServiceError."""
    try:
        return opener(*arguments)
    except ValueError as error:
        raise UnknownServiceError(str(error)) from error
