"""Engines by name, each opened at its first use and then shared."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dialgraph.services.errors import UnknownServiceError

Engine = TypeVar("Engine")


class Shelf(dict[str, Engine]):
    """`shelf[name]` opens what the settings say of the name. Raises UnknownServiceError."""

    def __init__(
        self, kind: str, open_engine: Callable[[str, Any], Engine], addresses: Callable[[], Mapping[str, Any]]
    ) -> None:
        super().__init__()
        self._kind = kind
        self._open = open_engine
        self._addresses = addresses

    def __missing__(self, name: str) -> Engine:
        engine = self[name] = opened(self._open, name, known(self._kind, name, self._addresses()))
        return engine


def known(kind: str, name: str, addresses: Mapping[str, Engine]) -> Engine:
    """What the settings say of a name. Raises UnknownServiceError."""
    if name not in addresses:
        raise UnknownServiceError(
            f"No {kind} {name!r} in the settings. Accepted: {', '.join(map(repr, sorted(addresses))) or 'none yet'};"
            f" another one goes into `{kind.replace(' ', '_')}s` of dialgraph.yaml."
        )
    return addresses[name]


def opened(open_engine: Callable[..., Engine], *arguments: Any) -> Engine:
    """The engine. Raises UnknownServiceError."""
    try:
        return open_engine(*arguments)
    except ValueError as error:
        raise UnknownServiceError(str(error)) from error
